"""What machines use, as it is measured: rates between two looks, gaps where there was none."""

import contextlib
import json
import os
import time
from dataclasses import replace
from unittest.mock import Mock

import pytest

from agent import processes
from agent.errors import NoAnswer, Unreachable
from agent.processes import Process, Usage, start_time
from compute.agent import samples
from compute.agent.hypervisors.base import Counters
from compute.agent.hypervisors.qemu import control
from compute.agent.samples import Samples
from tests.network.fakes import FakePlugs


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(samples.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def used(monkeypatch):
    """What every machine's process has used so far; None: it has ended."""
    found = [Usage(10.0, 64.0)]
    monkeypatch.setattr(samples.processes, "usage", lambda process: found[0])
    return found


@pytest.fixture
def measured(node, control_plane, obey, spec):
    obey("ensure_running", {**spec, "vcpus": 2})
    return Samples(node.machines, node.ledger, node.control_plane)


def give_networks(node) -> FakePlugs:
    plugs = FakePlugs()
    node.machines.tools = replace(node.machines.tools, plugs=plugs)
    return plugs


def count(node, monkeypatch, **counted):
    monkeypatch.setattr(node.hypervisor, "counters", lambda home: Counters(**counted))


def test_a_rate_needs_two_looks(node, measured, clock, used, monkeypatch):
    count(node, monkeypatch, disk_read_bytes=1000, disk_reads=10)
    [first] = measured.take()
    assert set(first) == {"id", "memory_mib"}
    clock[0] += 10
    used[0] = Usage(15.0, 65.5)
    count(node, monkeypatch, disk_read_bytes=21000, disk_reads=10, disk_writes=3)
    [sample] = measured.take()
    sample.pop("id")
    assert sample == {
        "memory_mib": 65.5, "cpu_percent": 25.0, "disk_read_bytes_per_second": 2000, "disk_reads_per_second": 0,
    }  # fmt: skip


def test_another_process_begins_anew(node, measured, clock, used, control_plane, obey, spec):
    measured.take()
    clock[0] += 10
    node.hypervisor.crash(spec["id"])
    node.look()
    obey("ensure_running", {**spec, "vcpus": 2}, generation=2)
    used[0] = Usage(0.5, 60.0)
    [sample] = measured.take()
    assert set(sample) == {"id", "memory_mib"}


def test_counters_that_went_back_are_a_gap(node, measured, clock, used, monkeypatch):
    count(node, monkeypatch, disk_writes=100)
    measured.take()
    clock[0] += 10
    count(node, monkeypatch, disk_writes=3)
    assert "disk_writes_per_second" not in measured.take()[0]


def test_an_emulator_that_does_not_answer_is_measured_without_its_disks(node, measured, clock, used, monkeypatch):
    def silent(home):
        raise NoAnswer("busy")

    monkeypatch.setattr(node.hypervisor, "counters", silent)
    measured.take()
    clock[0] += 10
    assert set(measured.take()[0]) == {"id", "memory_mib", "cpu_percent"}


def counted(received, sent, **dropped):
    packets = {"received_packets": received // 100, "sent_packets": sent // 100}
    return {"received_bytes": received, "sent_bytes": sent, **packets, "dropped": dropped}


def test_traffic_is_that_of_all_nics_as_the_network_process_counts_it(node, control_plane, clock, used, obey, spec):
    plugs = give_networks(node)
    rest = {"network": "n", "mtu": 1450, "addresses": [], "gateway": None, "dns": []}
    nics = [{"port": port, "mac": f"52:54:00:00:00:0{port}", **rest} for port in "12"]
    obey("ensure_running", {**spec, "nics": nics})
    measured = Samples(node.machines, node.ledger, node.control_plane)
    plugs.ports = {"1": counted(1000, 2000, spoofed_mac=1), "2": counted(0, 0)}
    measured.take()
    clock[0] += 10
    plugs.ports = {"1": counted(3000, 2000, spoofed_mac=1, not_ip=4), "2": counted(6000, 1000, ingress_refused=5)}
    [sample] = measured.take()
    assert {name: value for name, value in sample.items() if name.startswith("network")} == {
        "network_received_bytes_per_second": 800, "network_sent_bytes_per_second": 100,
        "network_received_packets_per_second": 8, "network_sent_packets_per_second": 1,
        "network_dropped_packets_per_second": 0.9,
    }  # fmt: skip
    clock[0] += 10
    del plugs.ports["2"]  # unplugged from below: half of the traffic would be a lie
    assert not any(name.startswith("network") for name in measured.take()[0])


def test_several_disks_and_nics_are_told_of_one_by_one(node, control_plane, clock, used, obey, spec, monkeypatch):
    plugs = give_networks(node)
    rest = {"network": "n", "mtu": 1450, "addresses": [], "gateway": None, "dns": []}
    nics = [{"port": port, "mac": f"52:54:00:00:00:0{port}", **rest} for port in "12"]
    obey("ensure_running", {**spec, "nics": nics})
    measured = Samples(node.machines, node.ledger, node.control_plane)
    plugs.ports = {"1": counted(1000, 2000), "2": counted(0, 0, not_ip=1)}
    count(node, monkeypatch, disks={0: {"disk_reads": 10}, 1: {"disk_reads": 5}})
    measured.take()
    clock[0] += 10
    plugs.ports = {"1": counted(3000, 2000), "2": counted(6000, 1000, not_ip=3)}
    count(node, monkeypatch, disks={0: {"disk_reads": 40}, 1: {"disk_reads": 5}})
    measured.take()
    clock[0] += 5
    measured.tell()
    told = {one.pop("device"): one for one in control_plane.devices}
    assert told.keys() == {spec["id"], "1", "2"}  # what is in slot 1 is no volume of this machine
    assert told[spec["id"]] == {"id": spec["id"], "age": 5, "disk_reads_per_second": 3}
    assert told["1"]["network_received_bytes_per_second"] == 200
    assert told["2"]["network_received_bytes_per_second"] == 600
    assert told["2"]["network_dropped_packets_per_second"] == 0.2


def test_of_a_single_disk_nothing_more_is_told(measured, node, clock, used, control_plane, monkeypatch):
    for reads in (10, 40):
        count(node, monkeypatch, disk_reads=reads, disks={0: {"disk_reads": reads}})
        measured.take()
        clock[0] += 10
    measured.tell()
    assert len(control_plane.samples) == 2
    assert control_plane.devices == []


def test_qemu_counts_its_disks_one_by_one(monkeypatch):
    stats = {"rd_bytes": 1, "wr_bytes": 2, "rd_operations": 3, "wr_operations": 4}
    blocks = [{"qdev": qdev, "stats": stats} for qdev in (
        "/machine/peripheral/vda-device/virtio-backend", "vdc-device", "cdrom", "cd-device",
    )]  # fmt: skip
    answers = iter([b"{}", *(json.dumps({"return": one}).encode() for one in (blocks, {}, {}))])
    monkeypatch.setattr(control.sockets, "connect", lambda *given: contextlib.nullcontext(Mock()))
    monkeypatch.setattr(control, "_next_answer", lambda lines: next(answers))
    found = control.counters(Mock())
    assert found.disk_reads == 12
    assert {slot: disk["disk_read_bytes"] for slot, disk in found.disks.items()} == {0: 1, 2: 1}


def test_what_has_ended_is_not_measured(measured, used):
    used[0] = None
    assert measured.take() == []


def test_nothing_is_lost_while_the_control_plane_is_away_for_a_while(measured, clock, used, control_plane):
    control_plane.down = True
    for _ in range(samples.MAX_ROUNDS_KEPT + 5):
        measured.take()
        with pytest.raises(Unreachable):
            measured.tell()
        clock[0] += 10
    control_plane.down = False
    measured.tell()
    ages = [sample["age"] for sample in control_plane.samples]
    assert ages == [10.0 * number for number in range(samples.MAX_ROUNDS_KEPT, 0, -1)]
    measured.tell()
    assert len(control_plane.samples) == samples.MAX_ROUNDS_KEPT


def test_usage_is_of_this_very_process():
    mine = Process(os.getpid(), start_time(os.getpid()) or 0)
    found = processes.usage(mine)
    assert found is not None
    assert found.resident_mib > 10
    assert 0 < found.cpu_seconds < 3600
    assert processes.usage(replace(mine, started=mine.started + 1)) is None
    assert processes.usage(Process(2**22 + 1, 1)) is None


def test_what_a_guest_says_of_its_memory_is_told(node, measured, clock, used, monkeypatch):
    count(node, monkeypatch, guest_memory_mib=28.5)
    assert measured.take()[0]["guest_memory_mib"] == 28.5


MIB = 1 << 20


@pytest.mark.parametrize(
    ("seconds_ago", "total", "available", "used_mib"),
    [(2, 256 * MIB, 200 * MIB, 56.0), (600, 256 * MIB, 200 * MIB, None), (2, 256 * MIB, 2**64 - 1, None),
     (2, 2**64 - 1, 2**64 - 1, None), (2, 100, 200, None)],
)  # fmt: skip
def test_only_what_a_guest_said_lately_and_what_can_be_is_believed(seconds_ago, total, available, used_mib):
    stats = {"stat-total-memory": total, "stat-available-memory": available}
    told = {"last-update": int(time.time()) - seconds_ago, "stats": stats}
    assert control.guest_memory_mib(told) == used_mib
    assert control.guest_memory_mib({}) is None
