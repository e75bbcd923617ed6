"""The network process: what it answers, who may ask, and that it can be killed and started again at any time."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import NoAnswer, Refused
from agent.paths import Paths
from agent.processes import start_time
from network.agent.client import NetworkProcess, socket_path
from network.agent.process import anchor_record
from network.agent.specs import NetworkSpec
from tests.network.agent import frames, lab
from tests.network.agent.frames import ACK, SYN


def raw(host, line: bytes):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(lab.SECONDS)
        connection.connect(str(socket_path(host.paths)))
        connection.sendall(line + b"\n")
        return json.loads(connection.makefile().readline())


def test_it_says_what_it_can(host):
    capabilities = host.client.capabilities()
    assert capabilities["networks"]
    assert capabilities["tracking"] in ("bridge", "br_netfilter")
    assert capabilities["taps"]
    assert capabilities["missing"] == {}
    assert "no way out" in capabilities["way_out"]  # there is no default route in the laboratory


def test_what_means_nothing_is_answered_in_words(make_host):
    host = make_host(0)
    spec = lab.network(host, a="10.0.0.10")

    def broken(change) -> str:
        copy = json.loads(json.dumps(spec))
        change(copy)
        with pytest.raises(Refused) as problem:
            host.apply(copy)
        return str(problem.value)

    assert "lacks 'ports'" in broken(lambda each: each.pop("ports"))
    assert "VNI" in broken(lambda each: each["network"].update(vni=0))
    assert "MAC" in broken(lambda each: each["ports"][0].update(mac="01:00:5e:00:00:01"))
    assert "10.0.0.300" in broken(lambda each: each["ports"][0]["addresses"][0].update(address="10.0.0.300"))
    assert "not described" in broken(lambda each: each.update(groups={}))
    assert "domain" in broken(lambda each: each["network"].update(domain="a b"))
    assert "malformed" in broken(lambda each: each.update(ports=5))
    assert "malformed" in raw(host, b"{}")["problem"]
    assert "cannot 'dance'" in raw(host, b'{"do": "dance"}')["problem"]
    assert "problem" in raw(host, b"not json")
    assert (
        "knows no volume"
        in raw(host, b'{"do": "apply", "type": "volume", "id": "1", "generation": 1, "spec": {}}')["problem"]
    )
    with pytest.raises(Refused, match="no network of this host has a port"):
        host.client.plug(lab.new_id())
    assert host.client.inventory() == {"resources": [], "plugged": [], "strangers": []}


def test_inventory_and_counters_tell_what_is_there(host):
    spec = lab.network(host, rules=[lab.ingress()], a="10.0.0.10", b="10.0.0.11")
    host.client.apply("network", spec["id"], 7, spec)
    a, b = host.guest(spec, "a"), host.guest(spec, "b")
    before = host.client.counters()["ports"]
    assert b.hears(a, frames.udp(a.mac, b.mac, a.ip, b.ip, (1, 2)))
    told = host.client.inventory()
    assert [(each["type"], each["id"], each["generation"]) for each in told["resources"]] == [
        ("network", spec["id"], 7)
    ]
    assert told["plugged"] == sorted(port["id"] for port in spec["ports"])
    counters = host.client.counters()["ports"]
    first, second = (port["id"] for port in spec["ports"])
    assert counters[first]["sent_packets"] - before[first]["sent_packets"] == 2  # the frame, and the marker behind it
    assert counters[second]["received_packets"] > before[second]["received_packets"]
    with pytest.raises(Refused, match="generation 7 is here"):
        host.client.apply("network", spec["id"], 6, spec)


def test_a_port_is_plugged_once_and_again_after_its_emulator_ended(host):
    spec = lab.network(host, rules=[lab.ingress()], a="10.0.0.10", b="10.0.0.11")
    host.apply(spec)
    a, b = host.guest(spec, "a"), host.guest(spec, "b")
    with pytest.raises(Refused, match="plugged already"):
        host.guest(spec, "a")
    a.close()
    a = host.guest(spec, "a")
    assert b.hears(a, frames.udp(a.mac, b.mac, a.ip, b.ip, (1, 2)))
    host.client.unplug(spec["ports"][0]["id"])
    host.client.unplug(spec["ports"][0]["id"])
    with pytest.raises(OSError):
        a.send(frames.arp(a.mac, a.ip, b.ip))
    assert host.client.inventory()["plugged"] == [spec["ports"][1]["id"]]


def test_a_port_that_is_deleted_loses_its_tap_and_its_address_is_free(host):
    spec = lab.network(host, rules=[lab.ingress()], a="10.0.0.10", b="10.0.0.11")
    host.apply(spec)
    a, b = host.guest(spec, "a"), host.guest(spec, "b")
    group = spec["ports"][0]["security_groups"]
    del spec["ports"][0]
    lab.add_port(spec, "new", "10.0.0.10", groups=group)
    host.apply(spec)
    with pytest.raises(OSError):
        a.send(frames.arp(a.mac, a.ip, b.ip))
    new = host.guest(spec, "new")
    assert b.hears(new, frames.udp(new.mac, b.mac, new.ip, b.ip, (1, 2)))


def test_networks_with_the_same_addresses_do_not_meet(host):
    specs = [lab.network(host, rules=[lab.ingress()], a="10.0.0.10", b="10.0.0.11") for _ in range(2)]
    for spec in specs:
        host.apply(spec)
    (a, b), (other_a, other_b) = [(host.guest(spec, "a"), host.guest(spec, "b")) for spec in specs]
    a.send(frames.udp(a.mac, frames.BROADCAST, a.ip, "10.0.0.255", (1, 2), b"of the first network"))
    a.send(frames.arp(a.mac, a.ip, "10.0.0.11"))
    assert b.receive(lambda frame: b"of the first" in frame)
    ordinary = frames.udp(other_a.mac, other_b.mac, other_a.ip, other_b.ip, (3, 4), b"of the second network")
    other_a.send(ordinary)
    heard = []
    assert other_b.receive(lambda frame: heard.append(frame) or frame == ordinary)
    assert heard == [ordinary]


def test_a_quarantined_network_plugs_nothing(host):
    spec = lab.network(host, a="10.0.0.10")
    host.apply(spec)
    host.client.quarantine(spec["id"], True)
    with pytest.raises(Refused, match="quarantined"):
        host.guest(spec, "a")
    host.client.quarantine(spec["id"], False)
    host.guest(spec, "a").close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_flows_survive_a_restart_of_the_process(host, number):
    rule = lab.ingress("tcp", 22, 22)
    spec = lab.network(host, rules=[rule], a="10.0.0.10", b="10.0.0.11")
    host.apply(spec)
    a, b = host.guest(spec, "a"), host.guest(spec, "b")
    assert b.hears(a, frames.tcp(a.mac, b.mac, a.ip, b.ip, (4000, 22), SYN, (1, 0)))
    assert a.hears(b, frames.tcp(b.mac, a.mac, b.ip, a.ip, (22, 4000), SYN | ACK, (1, 2)))
    before = host.client.inventory()
    data = frames.tcp(a.mac, b.mac, a.ip, b.ip, (4000, 22), ACK, (2, 2))
    answer = frames.tcp(b.mac, a.mac, b.ip, a.ip, (22, 4000), ACK, (2, 2))
    host.stop(number)
    assert b.hears(a, data)  # with nobody there
    host.start()
    assert host.client.inventory() == before
    assert b.hears(a, data)
    assert a.hears(b, answer)
    host.apply(spec)
    assert a.hears(b, answer)
    spec["groups"][spec["ports"][0]["security_groups"][0]]["rules"].remove(rule)
    host.apply(spec)
    assert not b.hears(a, data)


def restart(host, spec) -> None:
    host.stop()
    host.start()


@pytest.mark.parametrize("mend", [restart, lambda host, spec: host.apply(spec)], ids=["started", "told again"])
def test_what_others_did_to_the_rules_is_undone(make_host, mend):
    host = make_host(0)
    spec = lab.network(host, rules=[lab.ingress()], a="10.0.0.10", b="10.0.0.11")
    host.apply(spec)
    a, b = host.guest(spec, "a"), host.guest(spec, "b")
    stolen = frames.udp(a.mac, b.mac, "10.0.0.99", b.ip, (1, 2))
    device = NetworkSpec.read(spec).ports[0].device

    def nft(command: str) -> str:
        anchor = anchor_record(host.paths).read_text().split()[0]
        inside = f"--net={host.runtime}/network/namespaces/network-{spec['id']}/net"
        script = "import sys; from network.agent import nft; print(nft.run(sys.argv[1]))"
        program = ["nsenter", "--mount", "--target", anchor, "nsenter", inside, sys.executable, "-c", script, command]
        return subprocess.run(program, env=host.environment, check=True, capture_output=True, text=True).stdout

    nft(f"add element bridge pileus senders4 {{ {device} . {a.mac} . 10.0.0.99 }}")
    nft(f"delete element bridge pileus ingress {{ {device} }}")
    assert b.hears(a, stolen)
    mend(host, spec)
    assert not b.hears(a, stolen)
    assert a.hears(b, frames.udp(b.mac, a.mac, b.ip, a.ip, (1, 2)))
    assert "10.0.0.99" not in nft("list table bridge pileus")


@pytest.mark.parametrize("uid", [0, lab.NOBODY], ids=["root", "user"])
def test_all_is_gone_when_it_is_removed_and_the_anchor_with_the_process(make_host, uid):
    host = make_host(uid)
    spec = lab.network(host, a="10.0.0.10")
    route = lab.router((spec, "10.0.0.1/24"))
    host.apply(spec)
    host.apply(route, "router")
    assert len(host.client.inventory()["resources"]) == 2
    pid, started = anchor_record(host.paths).read_text().split()
    for _ in range(2):
        host.client.remove("router", route["id"])
        host.client.remove("network", spec["id"])
    assert host.client.inventory() == {"resources": [], "plugged": [], "strangers": []}
    host.stop()
    lab.wait_for(lambda: start_time(int(pid)) != int(started))


def test_what_nobody_ordered_is_told_as_a_stranger_and_can_be_removed(make_host):
    host = make_host(0)
    spec = lab.network(host, a="10.0.0.10")
    host.apply(spec)
    anchor = anchor_record(host.paths).read_text().split()[0]
    kept = f"{host.runtime}/network/namespaces/network-{spec['id']}/applied.json"
    subprocess.run(["nsenter", "--mount", "--target", anchor, "rm", kept], check=True)
    host.stop()
    host.start()
    assert host.client.inventory()["strangers"] == [f"network-{spec['id']}"]
    host.client.remove("network", spec["id"])
    assert host.client.inventory()["strangers"] == []


def test_after_a_reboot_everything_can_be_applied_anew(host):
    spec = lab.network(host, rules=[lab.ingress()], a="10.0.0.10", b="10.0.0.11")
    host.apply(spec)
    host.stop(signal.SIGKILL)
    pid = int(anchor_record(host.paths).read_text().split()[0])
    os.kill(pid, signal.SIGKILL)  # what a reboot does to namespaces
    lab.wait_for(lambda: not Path(f"/proc/{pid}/ns").exists() or not os.path.exists(f"/proc/{pid}/exe"))
    host.start()
    assert host.client.inventory() == {"resources": [], "plugged": [], "strangers": []}
    host.apply(spec)
    a, b = host.guest(spec, "a"), host.guest(spec, "b")
    assert b.hears(a, frames.udp(a.mac, b.mac, a.ip, b.ip, (1, 2)))


def test_nobody_else_may_ask(make_host):
    host = make_host(0)
    ask = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])"
    command = [
        "setpriv",
        f"--reuid={lab.NOBODY}",
        "--clear-groups",
        "/usr/bin/python3",
        "-c",
        ask,
        str(socket_path(host.paths)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "PermissionError" in done.stderr


def test_root_keeps_only_the_privileges_that_networks_need(make_host):
    host = make_host(0)
    assert host._process
    pid = int(host.run("sh", "-c", f"cat /proc/{host._process.pid}/status | grep CapEff").split()[1], 16)
    assert pid == sum(1 << number for number in (10, 12, 13, 21))


def test_a_second_process_does_not_start(make_host):
    host = make_host(0)
    command = [*host.enter, *host.command]
    done = subprocess.run(command, env=host.environment, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode != 0
    assert "another network process answers" in done.stderr


def test_where_no_process_answers_the_client_says_so(tmp_path):
    with pytest.raises(NoAnswer, match="does not answer: No such file"):
        NetworkProcess(Paths(tmp_path, tmp_path)).inventory()


def test_where_no_namespaces_are_allowed_it_stays_and_says_so(make_host):
    host = make_host(0)
    host.stop()
    host.start("setpriv", "--bounding-set=-sys_admin", "--")
    said = host.client.capabilities()
    assert said["networks"] is False
    assert said["missing"] == {"namespaces": "this host allows no namespaces: unshare: Operation not permitted"}
    with pytest.raises(Refused, match="can have no networks: this host allows no namespaces"):
        host.apply(lab.network(host, a="10.0.0.10"))
    assert host.client.inventory()["resources"] == []
