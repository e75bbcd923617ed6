"""Files that hosts fetch."""

import hashlib

import pytest
from django.test import Client

from tests.fakes import django_request

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_host_fetches_only_what_something_that_is_placed_on_it_is_made_of(cloud, settings, tmp_path):
    settings.IMAGE_STORE = tmp_path
    sha256 = hashlib.sha256(b"a kernel").hexdigest()
    (tmp_path / sha256).write_bytes(b"a kernel")
    cloud.image.files = [{"role": "kernel", "sha256": sha256, "size": 8, "format": None}]
    cloud.image.save()
    request = django_request(Client())
    other = cloud.add_node("other")

    def fetch(node, name=sha256):
        return request("GET", f"/agent/v1/files/{name}", None, node.token)

    assert fetch(cloud.node)[0] == 404
    instance = cloud.launch()
    assert instance.host.name in ("node1", "other")
    here, there = (cloud.node, other) if instance.host.name == "node1" else (other, cloud.node)
    assert fetch(here) == (200, b"a kernel")
    assert fetch(there)[0] == 404
    assert fetch(here, "0" * 64)[0] == 404
