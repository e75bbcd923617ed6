"""What a host tells has the shape that its readers rely on: a host that lies breaks no page of others."""

import pytest

from cloud.hosts.resources import kind_of
from cloud.hosts.shapes import FACTS, faults
from tests.things.node import ThingNode

pytestmark = pytest.mark.django_db(transaction=True)

WRONG = [
    {"network": "all of them"},
    {"network": {"pools": ["everything"]}},
    {"network": {"missing": ["nft"]}},
    {"volumes": True},
    {"pools": ["nfs"]},
    {"pools": {"nfs": {"name": "nfs", "total_gib": 1}}},
    {"pools": {"5b0c9b1e-7d0b-4c88-9d5c-2f8a7f0e6c11": {"name": "nfs"}}},
    {"pools": {"5b0c9b1e-7d0b-4c88-9d5c-2f8a7f0e6c11": {"total_gib": 1}}},
    {"images": ["qcow2"]},
    {"hypervisors": {"qemu": []}},
    {"hypervisors": {"qemu": {"architectures": ["x86_64"]}}},
    {"hypervisors": {"qemu": {"verbs": "all"}}},
    {"jail": "none"},
    {"image_cache": {"serves": {"address": "10.0.0.7:8490"}}},
    {"image_cache": {"serves": {"address": "10.0.0.7:8490", "fingerprint": "a", "downloads": "4"}}},
    {"anything": "x" * 65_536},
]


@pytest.mark.parametrize("capabilities", WRONG)
def test_capabilities_of_another_shape_are_refused(capabilities):
    node = ThingNode("node")
    beat = {"boot_id": "b", "agent_version": "1", "capacity": {"vcpus": 1, "memory_mib": 1, "disk_gib": 1}}
    refused = node.post("heartbeat", **beat, capabilities=capabilities, inventory=[])
    assert (refused["status"], refused["code"]) == (400, "invalid")
    assert refused["errors"][0]["pointer"].startswith("/capabilities")
    node.host.refresh_from_db()
    assert node.host.capabilities == {"things": True}


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("instance", {"started_at": 5}),
        ("instance", {"started_at": "2026-11-30T12:00:00"}),
        ("instance", {"volumes": 1}),
        ("instance", {"volumes": {"a": 1}}),
        ("instance", {"nics": 1}),
        ("instance", {"cd": []}),
        ("instance", {"devices_problem": {}}),
        ("volume", {"layers": ["top"]}),
        ("volume", {"used_bytes": "many"}),
        ("volume", {"used_bytes": -1}),
        ("volume", {"served": {"host": "10.0.0.5", "port": 10900}}),
        ("image", {"files": [[]]}),
        ("image", {"files": [{"size": True}]}),
        ("image", {"found": {"machine": []}}),
        ("image", {"found": {"machine": {"cpus": "two"}}}),
        ("network", {"problems": ["it is broken"]}),
        ("router", {"problems": {"a": 1}}),
    ],
)
def test_facts_of_another_shape_are_known(kind, facts):
    found = kind_of(kind)
    assert found is not None
    assert list(faults(facts, {**FACTS, **found.facts}, "/facts"))
