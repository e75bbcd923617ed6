"""What hosts get of instances: no more than the verb needs."""

import json

import pytest
from django.db import transaction

from cloud.hosts import orders
from cloud.hosts.models import Host
from compute import services
from compute.hosted import spec

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "#!/bin/sh\n# a secret of this tenant"


@pytest.fixture
def instance(cloud):
    made = cloud.launch(user_data=SECRET)
    cloud.settle()
    made.refresh_from_db()
    return made


@pytest.mark.parametrize(
    ("verb", "gets_it"),
    [
        ("ensure_running", True), ("ensure_paused", True), ("ensure_suspended", True),
        ("ensure_stopped", False), ("ensure_gone", False),
    ],
)  # fmt: skip
def test_user_data_goes_only_where_a_guest_may_read_it(instance, verb, gets_it):
    assert ("a secret of this tenant" in json.dumps(spec(instance.machine, verb))) == gets_it


def test_a_stop_and_a_start_keep_the_user_data(cloud, instance):
    cloud.do(services.stop, instance)
    cloud.settle()
    assert "a secret" not in json.dumps(entry(cloud, instance).spec)
    cloud.do(services.start, instance)
    cloud.settle()
    assert entry(cloud, instance).spec["seed"]["user_data"] == SECRET


def test_nothing_of_a_deleted_instance_stays_in_its_hosts_ledger(cloud, instance):
    cloud.do(services.delete, instance)
    cloud.settle()
    assert entry(cloud, instance).spec == {}


def test_a_host_gets_nothing_of_what_is_placed_elsewhere(cloud, instance):
    """However it was brought to ask: an order for it is there."""
    cloud.add_node("other")
    host = Host.objects.get(name="other")
    for verb in ("ensure_gone", "ensure_running"):
        with transaction.atomic():
            orders.post(host, "instance", instance.pk, verb, 1)
        [claimed] = orders.claim(host, 5)
        assert claimed.spec == {"id": str(instance.pk)}


def entry(cloud, instance):
    return cloud.node.entry(str(instance.pk))
