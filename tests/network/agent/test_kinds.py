"""Networks and routers as resources of a host: orders, reports, inventory, quarantine, strangers, a reboot."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.control_plane import ControlPlane
from agent.entries import Key
from agent.errors import NoAnswer, Refused
from agent.host import Host
from agent.jail import Confinement
from agent.kinds import Tools
from agent.ledger import Ledger
from agent.membership import Membership
from agent.paths import Paths
from agent.processes import Process
from agent.spawn import spawn
from compute.agent import nics
from compute.agent.homes import Homes
from compute.agent.hypervisors.base import Boot
from network.agent import kinds
from network.agent.process import anchor_record
from tests.network.agent import frames, lab


class NetworkHost(Host):
    """A worker's host on which nothing but networks lives, beside a network process in the laboratory."""

    def __init__(self, url: str, home: Path, runtime: Path) -> None:
        paths = Paths(home, runtime)
        paths.make()
        tools = Tools(paths, Ledger(paths.ledger), ControlPlane(url))
        tools.add(*kinds.kinds(tools))
        super().__init__(tools)

    def once(self) -> None:
        self.notice_all(thoroughly=True)
        self.look()
        self.send_reports()


@pytest.fixture
def worker(host, control_plane, tmp_path, monkeypatch):
    monkeypatch.setattr(kinds, "SECONDS_THAT_A_LOOK_HOLDS", 0.0)
    return NetworkHost(control_plane.url, tmp_path, host.runtime)


def test_what_is_ordered_is_applied_and_reported(host, worker, control_plane):
    spec = lab.network(host, a="10.0.0.10")
    route = lab.router((spec, "10.0.0.1/24"))
    control_plane.order("ensure_present", spec, 3, "network")
    control_plane.order("ensure_present", route, 1, "router")
    worker.once()
    assert control_plane.last(spec["id"])["seen"] == "present"
    assert control_plane.last(route["id"])["seen"] == "present"
    assert {(each["type"], each["generation"]) for each in host.client.inventory()["resources"]} == {
        ("network", 3),
        ("router", 1),
    }
    host.guest(spec, "a").close()
    said = worker.capabilities()["network"]
    assert (said["networks"], said.keys() >= {"vtep", "tunnels"}) == (True, True)
    control_plane.order("ensure_gone", route, 2, "router")
    control_plane.order("ensure_gone", spec, 4, "network")
    worker.once()
    assert control_plane.last(spec["id"])["seen"] == "gone"
    assert host.client.inventory()["resources"] == []


def test_what_cannot_be_is_reported_with_its_reason(host, worker, control_plane):
    spec = lab.network(host, a="10.0.0.10")
    spec["network"]["vni"] = 0
    control_plane.order("ensure_present", spec, 1, "network")
    worker.once()
    report = control_plane.last(spec["id"])
    assert report["seen"] == "broken"
    assert "VNI 0 is not a number between 1 and" in report["facts"]["problem"]


def test_a_port_of_the_host_that_is_taken_is_a_problem_of_a_router_that_is_present(host, worker, control_plane):
    spec = lab.network(host, a="10.0.0.10")
    one, two = (
        lab.router((spec, "10.0.0.1/24"), forwards=[lab.forward(spec, 2022, "10.0.0.10", 22)]) for _ in range(2)
    )
    for each, type in ((spec, "network"), (one, "router"), (two, "router")):
        control_plane.order("ensure_present", each, 1, type)
        worker.once()
    report = control_plane.last(two["id"])
    assert report["seen"] == "present"
    assert report["facts"]["problem"] == "cannot listen on 127.0.0.1 port 2022: Address already in use"


def test_after_a_reboot_the_ledger_is_enough(host, worker, control_plane):
    spec = lab.network(host, rules=[lab.ingress()], a="10.0.0.10", b="10.0.0.11")
    control_plane.order("ensure_present", spec, 1, "network")
    worker.once()
    control_plane.close()  # the control plane is dead
    host.stop(signal.SIGKILL)
    pid, started = anchor_record(host.paths).read_text().split()
    os.kill(int(pid), signal.SIGKILL)
    lab.wait_for(lambda: not Process(int(pid), int(started)).alive)
    host.start()
    for kind in worker.kinds.values():
        kind.start(worker)
    a, b = host.guest(spec, "a"), host.guest(spec, "b")
    assert b.hears(a, frames.udp(a.mac, b.mac, a.ip, b.ip, (1, 2)))


def test_a_host_that_boots_needs_no_control_plane(make_host, control_plane, tmp_path):
    """With the worker's own process on what a reboot leaves, its home: neither web nor Redis answers it."""
    host = make_host(0)
    worker = NetworkHost(control_plane.url, tmp_path, host.runtime)
    spec = lab.network(host, rules=[lab.ingress()], a="10.0.0.10", b="10.0.0.11")
    route = lab.router((spec, "10.0.0.1/24"))
    for type, each in (("network", spec), ("router", route)):
        control_plane.order("ensure_present", each, 1, type)
        worker.once()
    control_plane.close()
    nobody = Membership(control_plane.url, lab.new_id(), "h", "token", "redis://127.0.0.1:1/0", "p:", "q")
    nobody.write(Paths(tmp_path, host.runtime).membership)
    host.stop(signal.SIGKILL)
    pid, started = anchor_record(host.paths).read_text().split()
    os.kill(int(pid), signal.SIGKILL)
    lab.wait_for(lambda: not Process(int(pid), int(started)).alive)
    shutil.rmtree(host.runtime / "network")
    host.start()
    command = [*host.enter, sys.executable, "-m", "agent.cli", "--home", str(tmp_path), "worker"]
    with (
        (tmp_path / "worker.log").open("wb") as log,
        subprocess.Popen(command, env=host.environment, stdout=log, stderr=log) as process,
    ):
        try:
            lab.wait_for(lambda: len(host.client.inventory()["resources"]) == 2, 90)
        finally:
            process.kill()
    a, b = host.guest(spec, "a"), host.guest(spec, "b")
    assert b.hears(a, frames.udp(a.mac, b.mac, a.ip, b.ip, (1, 2)))


def test_what_is_missing_is_noticed_and_applied_again(host, worker, control_plane):
    spec = lab.network(host, a="10.0.0.10")
    control_plane.order("ensure_present", spec, 1, "network")
    worker.once()
    host.client.remove("network", spec["id"])
    worker.once()
    assert [each["id"] for each in host.client.inventory()["resources"]] == [spec["id"]]


def test_nothing_plugs_into_a_network_that_nobody_owns(host, worker, control_plane):
    spec = lab.network(host, a="10.0.0.10")
    control_plane.order("ensure_present", spec, 1, "network")
    worker.once()
    key = Key("network", spec["id"])
    worker.set_quarantined(key)
    with pytest.raises(Refused, match="quarantined"):
        host.guest(spec, "a")
    host.stop()
    host.start()
    worker.once()
    with pytest.raises(Refused, match="quarantined"):
        host.guest(spec, "a")
    worker.set_quarantined(key, quarantined=False)
    host.guest(spec, "a").close()


def test_what_is_in_no_ledger_is_taken_in_and_quarantined(host, worker):
    spec = lab.network(host, a="10.0.0.10")
    host.apply(spec)
    worker.quarantine_strangers()
    entry = worker.ledger.get(Key("network", spec["id"]))
    assert entry
    assert entry.quarantined


def test_a_host_without_the_process_says_so(control_plane, tmp_path, monkeypatch):
    monkeypatch.setattr(kinds, "SECONDS_TO_COME_UP", 0.1)
    worker = NetworkHost(control_plane.url, tmp_path / "home", tmp_path / "run")
    said = worker.capabilities()["network"]
    assert said["networks"] is False
    assert "does not answer" in said["missing"]["process"]
    assert all("does not answer" in kind.problem() for kind in worker.kinds.values() if kind.type == "network")
    worker.quarantine_strangers()
    spec = lab.network(a="10.0.0.10")
    control_plane.order("ensure_present", spec, 1, "network")
    worker.once()
    assert control_plane.last(spec["id"])["seen"] == "broken"
    with pytest.raises(NoAnswer):
        worker.kinds["network"].look(worker.ledger.get(Key("network", spec["id"])), "")


def test_an_emulator_inherits_the_tap_and_holds_it(host, open_home):
    """With a program in the place of an emulator, which says a frame on the descriptor that it is told."""
    spec = lab.network(host, rules=[lab.ingress()], a="10.0.0.10", b="10.0.0.11")
    host.apply(spec)
    b = host.guest(spec, "b")
    port = spec["ports"][0]
    nic = {"port": port["id"], "network": spec["network"]["id"], "mac": port["mac"], "mtu": 1500}
    machine = {"id": lab.new_id(), "nics": [nic | {"addresses": ["10.0.0.10/24"]}]}
    homes = Homes(Paths(open_home / "home", open_home / "run"))
    home = homes.of(machine["id"])
    home.directory.mkdir(parents=True)
    frame = frames.udp(port["mac"], b.mac, "10.0.0.10", b.ip, (1, 2), b"from the emulator")
    program = (
        "import os, sys, time\nwhile True: os.write(int(sys.argv[1]), bytes.fromhex(sys.argv[2])); time.sleep(0.02)"
    )
    with nics.plugged(nics.of(machine), host.client, headers=False) as ready:
        boot = Boot(machine, home, nics=ready)
        (descriptor,) = boot.descriptors
        process = spawn(
            [sys.executable, "-c", program, str(descriptor), frame.hex()], home, Confinement(), boot.descriptors
        )
    try:
        assert b.receive(lambda heard: heard == frame)
        with pytest.raises(Refused, match="plugged already"):
            host.client.plug(port["id"])
    finally:
        process.kill()
        process.wait(lab.SECONDS)
    os.close(host.client.plug(port["id"]))
