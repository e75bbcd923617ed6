"""What Prometheus reads of instances and hosts."""

import pytest

from cloud.api.metrics import exposition
from tests import factories

pytestmark = pytest.mark.django_db


def test_instances_and_capacity_are_counted(make_instance):
    factories.host(memory_mib=1000)
    make_instance()
    lines = exposition().decode().splitlines()
    assert 'pileus_instances{status="error"} 1.0' in lines
    assert 'pileus_capacity{resource="memory_mib"} 1000.0' in lines
    assert 'pileus_capacity_free{resource="memory_mib"} 1000.0' in lines
