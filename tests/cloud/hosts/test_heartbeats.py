"""What a host tells in its heartbeats, and what it is told."""

import pytest

from cloud.hosts.models import Host, HostPulse
from cloud.operations.troubles import troubles
from tests.things.node import ThingNode

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def node():
    return ThingNode()


def told():
    return {trouble.title: [(case.name, case.words) for case in trouble.cases] for trouble in troubles()}


def test_a_host_learns_where_the_broker_is_without_credentials(node, settings):
    settings.HOST_REDIS_URL = "redis://somebody:secret@10.0.0.1:6390/0"
    assert node.heartbeat()["broker"] == "redis://10.0.0.1:6390/0"


def test_problems_of_a_host_are_shown_until_it_tells_of_them_no_more(node):
    assert told() == {}
    node.problems = [
        {"what": "bells", "problem": "not connected to redis://10.0.0.1:6390/0"},
        {"what": "report", "problem": "no thing that is blue", "type": "thing", "id": "1"},
        {"what": "report", "problem": "no thing that is red", "type": "thing", "id": "2"},
        {"what": "restarts", "problem": "pileus-agent worker ended 3 times"},
        {"what": "moon", "problem": "is full"},
    ]
    assert node.heartbeat()["status"] == 200
    assert HostPulse.objects.get().problems == node.problems
    assert told() == {
        "Hosts that do not get notifications": [("things", "not connected to redis://10.0.0.1:6390/0")],
        "Hosts whose agent restarts again and again": [("things", "pileus-agent worker ended 3 times")],
        "Reports that were refused": [("things", "no thing that is blue, and 1 more")],
    }
    node.problems = []
    node.heartbeat()
    assert told() == {}


def test_a_host_from_before_tells_of_no_problems(node):
    body = {"boot_id": "b", "agent_version": "0", "capacity": {"vcpus": 1, "memory_mib": 1, "disk_gib": 1}}
    assert node.post("heartbeat", **body, capabilities={}, inventory=[])["status"] == 200
    assert HostPulse.objects.get().problems == []


def test_what_a_host_offers_is_what_the_kinds_read_in_its_capabilities(node):
    assert Host.objects.get().offers == ["things"]
