"""DHCP: what a guest is told, and that only its own port's address is ever told."""

import os
import re
import shutil
import signal

import pytest

from network.agent import dhcp
from network.agent.specs import NetworkSpec
from tests.network.agent import frames, lab

SERVER = "169.254.169.254"
DISCOVER, OFFER, REQUEST, ACK, NAK, INFORM = 1, 2, 3, 5, 6, 8
KIND, MASK, ROUTER, DNS, NAME, DOMAIN, MTU, LEASE, ID, ROUTES = 53, 1, 3, 6, 12, 15, 26, 51, 54, 121


def ask(guest, kind, **what):
    guest.send(frames.dhcp(guest.mac, kind, **what))
    answer = guest.receive(frames.is_dhcp_answer)
    assert answer, "no answer"
    assert answer[:6] == frames.mac(guest.mac)
    address, options = frames.dhcp_options(answer)
    return options[KIND][0], address, options


def test_a_guest_gets_its_address_and_all_that_it_needs(host):
    spec = lab.network(host, web="10.0.0.10", db="10.0.0.11")
    spec["network"]["mtu"] = 1442
    spec["subnets"][0]["routes"] = [{"destination": "10.9.0.0/16", "next_hop": "10.0.0.9"}]
    host.apply(spec)
    web, db = host.guest(spec, "web"), host.guest(spec, "db")
    kind, address, options = ask(web, DISCOVER)
    assert (kind, address) == (OFFER, "10.0.0.10")
    kind, address, options = ask(web, REQUEST, wanted="10.0.0.10", server=SERVER)
    assert (kind, address) == (ACK, "10.0.0.10")
    assert options[MASK] == frames.ip("255.255.255.0")
    assert options[ROUTER] == frames.ip("10.0.0.1")
    assert options[DNS] == frames.ip(SERVER)
    assert options[NAME] == b"web"
    assert options[DOMAIN] == b"default.demo.internal"
    assert int.from_bytes(options[MTU], "big") == 1442
    assert options[ROUTES] == (
        b"\x20" + frames.ip(SERVER) + bytes(4) + b"\x10\x0a\x09" + frames.ip("10.0.0.9") + b"\0" + frames.ip("10.0.0.1")
    )
    assert ask(db, DISCOVER)[1] == "10.0.0.11"


def test_another_address_is_refused_and_another_server_left_alone(host):
    spec = lab.network(host, a="10.0.0.10")
    host.apply(spec)
    a = host.guest(spec, "a")
    assert ask(a, REQUEST, wanted="10.0.0.99")[0] == NAK
    a.send(frames.dhcp(a.mac, REQUEST, wanted="10.0.0.10", server="10.0.0.200"))
    assert ask(a, INFORM, client="10.0.0.10")[:2] == (ACK, "0.0.0.0")  # noqa: S104 - the first answer that there is


def test_a_lease_is_renewed_at_the_server_by_way_of_the_gateway(host):
    spec = lab.network(host, a="10.0.0.10")
    route = lab.router((spec, "10.0.0.1/24"))
    host.apply(spec)
    host.apply(route, "router")
    a = host.guest(spec, "a")
    a.send(frames.arp(a.mac, a.ip, "10.0.0.1"))
    gateway = a.receive(lambda frame: frame[12:14] == b"\x08\x06")
    assert gateway
    request = frames.dhcp(a.mac, REQUEST, client=a.ip)[42:]
    a.send(frames.udp(a.mac, gateway[6:12].hex(":"), a.ip, SERVER, (68, 67), request))
    answer = a.receive(frames.is_dhcp_answer)
    assert answer
    assert frames.dhcp_options(answer)[0] == a.ip


def test_an_address_moves_to_another_port_at_once_and_is_told_after_a_restart(host):
    spec = lab.network(host, a="10.0.0.10")
    host.apply(spec)
    group = spec["ports"].pop()["security_groups"]
    lab.add_port(spec, "b", "10.0.0.10", groups=group)
    host.apply(spec)
    b = host.guest(spec, "b")
    assert ask(b, DISCOVER)[1] == "10.0.0.10"
    host.stop(signal.SIGKILL)
    host.start()
    assert ask(b, DISCOVER)[1] == "10.0.0.10"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01" * 100,
        bytes(300),
        b"\x02" + bytes(235) + b"\x63\x82\x53\x63\x35\x01\x01\xff",
        b"\x01" + bytes(235) + b"\x63\x82\x53\x63",
        b"\x01" + bytes(235) + b"\x63\x82\x53\x63\x35",
        b"\x01" + bytes(235) + b"\x63\x82\x53\x63\x35\x00",
        b"\x01" + bytes(235) + b"\x63\x82\x53\x63\x35\xff\x01",
    ],
)
def test_rubbish_is_not_answered(message):
    spec = NetworkSpec.read(lab.network(a="10.0.0.10"))
    assert dhcp.answer(message, spec) is None
    own = bytearray(message.ljust(240, b"\0"))
    own[28:34] = frames.mac(spec.ports[0].mac)
    assert dhcp.answer(bytes(own), spec) is None


def test_a_subnet_without_dhcp_or_only_with_ipv6_is_silent():
    spec = lab.network(a="fd00::10")
    read = NetworkSpec.read(spec)
    assert dhcp.answer(frames.dhcp(read.ports[0].mac, DISCOVER)[42:], read) is None
    spec = lab.network(a="10.0.0.10")
    spec["subnets"][0]["dhcp"] = False
    read = NetworkSpec.read(spec)
    assert dhcp.answer(frames.dhcp(read.ports[0].mac, DISCOVER)[42:], read) is None


CLIENTS = {
    "dhclient": ("-1", "-sf", "{print}", "-lf", "{file}", "-pf", "{pid}", "eth0"),
    "udhcpc": ("-n", "-q", "-f", "-O", "staticroutes", "-s", "{print}", "-i", "eth0"),
    "dhcpcd": ("-1", "-4", "-t", "5", "-c", "{print}", "--noarp", "eth0"),
}


def is_told_of_a_gateway(words: str) -> bool:
    """Whether a client's script was, by option 3 or 121."""
    return bool(re.search(r"routers?=.*10\.0\.0\.1$|0\.0\.0\.0/0|\b0 10 0 0 1$", words, re.MULTILINE))


@pytest.mark.parametrize("program", CLIENTS)
def test_clients_that_others_wrote_take_the_lease(make_host, tmp_path, program):
    """And no gateway where another NIC has the default route, only the subnet's own routes."""
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    host = make_host(0)
    spec = lab.network(host, web="10.0.0.10")
    spec["subnets"][0]["routes"] = [{"destination": "10.9.0.0/16", "next_hop": "10.0.0.9"}]
    host.apply(spec)
    guest = lab.Machine(host.guest(spec, "web"))
    told = tmp_path / "told"
    script = tmp_path / "print"
    script.write_text(f"#!/bin/sh\nenv >> {told}\n")
    script.chmod(0o755)
    values = {"print": str(script), "file": str(tmp_path / "leases"), "pid": str(tmp_path / "pid")}

    def ask() -> str:
        told.write_text("")
        guest.run("ip", "addr", "flush", "dev", "eth0")
        guest.run("timeout", "10", program, *(each.format(**values) for each in CLIENTS[program]))
        if (tmp_path / "pid").exists():
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        return told.read_text()

    try:
        words = ask()
        assert "10.0.0.10" in words
        assert "default.demo.internal" in words
        assert is_told_of_a_gateway(words)
        spec["ports"][0]["aside"] = [4]
        host.apply(spec)
        words = ask()
        assert "10.0.0.10" in words
        assert not is_told_of_a_gateway(words)
        assert "default.demo.internal" not in words
        assert program == "dhclient" or "10.9.0.0/16" in words  # it was not configured to ask for routes
    finally:
        guest.close()
