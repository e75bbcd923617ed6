"""IPv6 in networks: what routers advertise, addresses by DHCPv6 and without it, names, metadata, other networks."""

import contextlib
import ipaddress
import json
import os
import shutil
import signal
import socket
import struct
from pathlib import Path

import pytest

from network.agent import dhcp6, ra
from network.agent.routers import leg_mac
from network.agent.rules import SERVICE_MAC
from network.agent.specs import NetworkSpec, link_local
from tests.network.agent import frames, lab
from tests.network.agent.test_dns import answers, question
from tests.network.agent.test_metadata import ask, pages
from tests.network.agent.test_routers import closing, echo, first_line, world  # noqa: F401

SERVICE = "fd00:ec2::254"
PREFIX = "fd00:1::/64"
SOLICIT, ADVERTISE, REQUEST, CONFIRM, RENEW, REPLY, RELEASE, INFORM = 1, 2, 3, 4, 5, 7, 8, 11
CLIENT = (1, b"\x00\x01client")
SERVER = (2, dhcp6.SERVER)


def dual(host=None, **more):
    return lab.network(host, cidr6=PREFIX, **({"a": "10.0.0.10 fd00:1::10", "b": "10.0.0.11 fd00:1::11"} | more))


@pytest.fixture
def led(host, closing):  # noqa: F811
    """A network with IPv6 behind a router, and machine `a` on it, which only has the link-local address."""
    spec = dual(host)
    host.apply(spec)
    route = lab.router((spec, "10.0.0.1/24"), (spec, "fd00:1::1/64"))
    host.apply(route, "router")
    a = closing(lab.Machine(host.guest(spec, "a")))
    return spec, route, a


def wait_for_link_local(machine) -> None:
    """Until the kernel knows that nobody else has it."""
    lab.wait_for(
        lambda: "fe80" in (shown := machine.run("ip", "-6", "addr", "show", "eth0")) and "tentative" not in shown
    )


def gateway(route, spec) -> str:
    return str(link_local(leg_mac(route["router"]["id"], spec["network"]["id"])))


def resolved(machine, name: str) -> list[bytes]:
    """IPv6 addresses of a name, asked for by IPv6."""
    with machine.within(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asking:
        asking.settimeout(lab.SECONDS)
        asked = question(name, 28)
        asking.sendto(asked, (SERVICE, 53))
        return answers(asking.recv(500), asked)[1]


def test_rdisc6_is_told_of_the_router_the_prefix_and_the_resolver(led):
    spec, route, a = led
    wait_for_link_local(a)
    told = a.run("rdisc6", "-1", "eth0")
    assert f"from {gateway(route, spec)}" in told
    assert "Stateful address conf.    :          Yes" in told
    assert f"Prefix                   : {PREFIX}" in told
    assert "On-link                 :          Yes" in told
    assert "Autonomous address conf.:           No" in told
    assert "MTU                      :         1500 bytes" in told
    assert f"Recursive DNS server     : {SERVICE}" in told
    assert "DNS search list          : default.demo.internal" in told


def test_the_kernel_takes_the_router_and_makes_addresses_only_where_there_is_no_dhcp(led, host):
    spec, route, a = led

    def default() -> bool:
        return f"default via {gateway(route, spec)}" in a.run("ip", "-6", "route")

    lab.wait_for(default)
    assert "fd00:1:" not in a.run("ip", "-6", "addr")
    spec["subnets"][1]["dhcp"] = False
    own = ipaddress.ip_network(PREFIX)[int(link_local(a.guest.mac)) & 2**64 - 1]
    spec["ports"][0]["addresses"][1]["address"] = str(own)
    host.apply(spec)  # is advertised at once
    lab.wait_for(lambda: f"{own}/64" in a.run("ip", "-6", "addr"))
    lab.wait_for(lambda: "tentative" not in a.run("ip", "-6", "addr"))
    assert resolved(a, "b") == [frames.ip("fd00:1::11")]


def test_the_kernel_has_its_default_route_by_the_nic_that_has_it_and_no_other(led, host, closing):  # noqa: F811
    """Of two guests one is told of no gateway; both are told what is on the network."""
    spec, route, a = led
    b = closing(lab.Machine(host.guest(spec, "b")))

    def led_by(guest) -> bool:
        return f"default via {gateway(route, spec)}" in guest.run("ip", "-6", "route")

    for first, second in ((a, b), (b, a)):
        for port in spec["ports"]:
            port["aside"] = [6] if port["id"] == second.guest.id else []
        host.apply(spec)  # is advertised at once
        lab.wait_for(lambda: led_by(first) and not led_by(second), 20)  # noqa: B023
        lab.wait_for(lambda: f"{PREFIX} dev eth0" in second.run("ip", "-6", "route"), 20)  # noqa: B023


CLIENTS = {
    "dhclient": ("-6", "-1", "-sf", "{print}", "-lf", "{file}", "-pf", "{pid}", "eth0"),
    "dhcpcd": ("-1", "-6", "-t", "10", "-c", "{print}", "--noarp", "eth0"),
}


@pytest.mark.parametrize("program", CLIENTS)
def test_clients_that_others_wrote_take_the_lease(make_host, closing, tmp_path, program):  # noqa: F811
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    host = make_host(0)
    spec = dual(host)
    host.apply(spec)
    host.apply(lab.router((spec, "10.0.0.1/24"), (spec, "fd00:1::1/64")), "router")
    guest = closing(lab.Machine(host.guest(spec, "a")))
    told, script = tmp_path / "told", tmp_path / "print"
    script.write_text(f"#!/bin/sh\nenv >> {told}\n")
    script.chmod(0o755)
    values = {"print": str(script), "file": str(tmp_path / "leases"), "pid": str(tmp_path / "pid")}
    wait_for_link_local(guest)
    guest.run("timeout", "20", program, *(each.format(**values) for each in CLIENTS[program]))
    if (tmp_path / "pid").exists():
        os.kill(int(lab.wait_for((tmp_path / "pid").read_text)), signal.SIGKILL)
    words = told.read_text()
    assert "fd00:1::10" in words
    assert SERVICE in words
    assert "default.demo.internal" in words


def test_networks_of_one_router_reach_each_other_by_ipv6(host, closing):  # noqa: F811
    rules = [lab.ingress("tcp", 80, 80, family=6)]
    one = dual(host, b="10.0.0.11")
    two = lab.network(host, cidr="10.0.2.0/24", cidr6="fd00:2::/64", rules=rules, c="10.0.2.10 fd00:2::10")
    for spec in (one, two):
        host.apply(spec)
    host.apply(lab.router((one, "fd00:1::1/64"), (two, "fd00:2::1/64")), "router")
    a, c = (closing(lab.Machine(host.guest(spec, name))) for spec, name in ((one, "a"), (two, "c")))
    for machine, address in ((a, "fd00:1::10/64"), (c, "fd00:2::10/64")):
        machine.run("ip", "-6", "addr", "add", address, "dev", "eth0", "nodad")
        lab.wait_for(lambda machine=machine: "default via fe80" in machine.run("ip", "-6", "route"))
    with c.within():
        for port in (80, 81):
            echo(closing(socket.create_server(("::", port), family=socket.AF_INET6)))
    assert first_line(a.connect("fd00:2::10", 80)) == "fd00:1::10"
    with pytest.raises(TimeoutError):
        a.connect("fd00:2::10", 81, seconds=0.3)


def test_names_and_metadata_are_there_by_ipv6_too(led, host):
    spec, _, a = led
    for port in spec["ports"]:
        host.client.introduce(port["id"], pages(port["name"]))
    a.run("ip", "-6", "addr", "add", "fd00:1::10/64", "dev", "eth0", "nodad")
    lab.wait_for(lambda: "default via fe80" in a.run("ip", "-6", "route"))
    path = "/openstack/latest/meta_data.json"
    assert ask(a, path, address=SERVICE, host=f"[{SERVICE}]") == (200, json.dumps({"uuid": "a"}))
    assert resolved(a, "b") == [frames.ip("fd00:1::11")]
    # The neighbour's address gets a liar nothing, not even where its tenant lets it use that.
    spec["ports"][0]["allowed_pairs"] = [{"address": "fd00:1::11", "mac": None}]
    host.apply(spec)
    a.run("ip", "-6", "addr", "add", "fd00:1::11/128", "dev", "eth0", "nodad")
    with a.within(), socket.socket(socket.AF_INET6) as liar:
        liar.settimeout(0.5)
        liar.bind(("fd00:1::11", 0))
        with pytest.raises(TimeoutError):
            liar.connect((SERVICE, 80))


def test_guests_without_ipv6_are_told_nothing_of_it(host):
    spec = lab.network(host, a="10.0.0.10")
    assert ra.advertisements(NetworkSpec.read(spec), {}) == []
    host.apply(spec)
    a = host.guest(spec, "a")
    solicitation = frames.icmpv6(a.mac, "33:33:00:00:00:02", str(link_local(a.mac)), "ff02::2", 133, bytes(4))
    a.send(solicitation)
    a.send(frames.arp(a.mac, a.ip, "169.254.169.254"))
    heard = []
    assert a.receive(lambda frame: heard.append(frame[12:14]) or frame[12:14] == b"\x08\x06")
    assert b"\x86\xdd" not in heard


def test_an_advertisement_of_a_subnet_that_no_router_leads_out_of_is_of_no_gateway():
    spec = dual()
    spec["network"]["mtu"] = 1442
    (frame,) = ra.advertisements(NetworkSpec.read(spec), {})
    assert frame[6:12] == frames.mac(SERVICE_MAC)
    assert struct.unpack_from("!H", frame, 14 + 40 + 6) == (0,)  # the router's lifetime
    assert b"\x05\x01\x00\x00" + struct.pack("!I", 1442) in frame


# DHCPv6, message by message.


def message(kind: int, *options: tuple[int, bytes]) -> bytes:
    packed = b"".join(struct.pack("!HH", name, len(value)) + value for name, value in options)
    return bytes([kind]) + b"\x12\x34\x56" + packed


def association(*addresses: str, number: int = 1) -> tuple[int, bytes]:
    leases = b"".join(struct.pack("!HH", 5, 24) + frames.ip(each) + bytes(8) for each in addresses)
    return 3, struct.pack("!III", number, 0, 0) + leases


def answered(asked: bytes, spec=None) -> tuple[int, list[tuple[int, bytes]]]:
    read = NetworkSpec.read(spec or dual())
    reply = dhcp6.answer(asked, read, read.ports[0])
    assert reply, "no answer"
    assert reply[1:4] == asked[1:4]
    return reply[0], dhcp6._read(reply[4:])


def given(options) -> dict[str, int]:
    """Addresses with their valid lifetimes."""
    found = {}
    for name, value in options:
        for inner, data in dhcp6._read(value[12:]) if name == 3 else ():
            if inner == 5:
                found[str(ipaddress.IPv6Address(data[:16]))] = struct.unpack_from("!I", data, 20)[0]
    return found


def test_a_lease_is_the_ports_own_address_whatever_is_asked_for():
    kind, options = answered(message(SOLICIT, CLIENT, association()))
    assert (kind, list(given(options))) == (ADVERTISE, ["fd00:1::10"])
    assert dict(options)[1] == CLIENT[1]
    assert dict(options)[23] == frames.ip(SERVICE)
    kind, options = answered(message(SOLICIT, CLIENT, association(), (14, b"")))
    assert (kind, list(given(options))) == (REPLY, ["fd00:1::10"])
    kind, options = answered(message(REQUEST, CLIENT, SERVER, association("fd00:1::10")))
    assert (kind, list(given(options))) == (REPLY, ["fd00:1::10"])
    # One that moved away is told to let its old address go.
    _, options = answered(message(RENEW, CLIENT, SERVER, association("fd00:1::99")))
    assert given(options) == {"fd00:1::10": dhcp6.VALID_SECONDS, "fd00:1::99": 0}


def test_other_requests_are_answered_as_rfc_8415_says():
    kind, options = answered(message(INFORM, CLIENT))
    assert (kind, given(options), dict(options)[23]) == (REPLY, {}, frames.ip(SERVICE))
    assert dict(answered(message(CONFIRM, CLIENT, association("fd00:1::10")))[1])[13] == b"\0\0"
    assert dict(answered(message(CONFIRM, CLIENT, association("fd00:9::10")))[1])[13] == b"\0\4"
    assert dict(answered(message(RELEASE, CLIENT, SERVER, association("fd00:1::10")))[1])[13] == b"\0\0"
    _, options = answered(message(SOLICIT, CLIENT, association(), association(number=2), (25, bytes(12))))
    assert [name for name, _ in options].count(3) == 2
    assert list(given(options)) == ["fd00:1::10"]
    assert dict(options)[25].endswith(b"\0\x0d\0\2\0\6")
    without = dual()
    without["subnets"][1]["dhcp"] = False
    assert given(answered(message(SOLICIT, CLIENT, association()), without)[1]) == {}


@pytest.mark.parametrize(
    "asked",
    [
        b"",
        b"\x01",
        message(SOLICIT),
        message(SOLICIT, CLIENT, SERVER, association()),
        message(REQUEST, CLIENT, association()),
        message(REQUEST, CLIENT, (2, b"another server"), association()),
        message(REPLY, CLIENT, SERVER),
        message(99, CLIENT),
        message(CONFIRM, CLIENT),
        b"\x01\x00\x00\x00\x00\x01\xff\xff",
    ],
)
def test_what_is_not_for_this_server_is_not_answered(asked):
    read = NetworkSpec.read(dual())
    assert dhcp6.answer(asked, read, read.ports[0]) is None


def test_rubbish_inside_of_a_request_does_no_harm():
    for value in (b"", b"\0" * 11, b"\0" * 13, struct.pack("!III", 1, 0, 0) + b"\0\x05\0\x02xx"):
        assert answered(message(SOLICIT, CLIENT, (3, value)))[0] == ADVERTISE


# The way out.

WORLD = "2001:db8:99::1"


def give_ipv6(host, outside) -> None:
    """The host is told of the world by IPv6, too."""
    for space, device, address in ((host, "uplink", "2001:db8:1::2/64"), (outside, "up", "2001:db8:1::1/64")):
        space.run("ip", "-6", "addr", "add", address, "dev", device, "nodad")
    host.run("ip", "-6", "route", "add", "default", "via", "2001:db8:1::1")
    outside.run("ip", "-6", "addr", "add", f"{WORLD}/128", "dev", "lo", "nodad")


def leading_out(host, closing):  # noqa: F811
    spec = dual(host, rules=[lab.ingress(family=6)])
    host.apply(spec)
    route = lab.router((spec, "10.0.0.1/24"), (spec, "fd00:1::1/64"), external=True)
    host.apply(route, "router")
    a = closing(lab.Machine(host.guest(spec, "a")))
    a.run("ip", "-6", "addr", "add", "fd00:1::10/64", "dev", "eth0", "nodad")
    lab.wait_for(lambda: "default via fe80" in a.run("ip", "-6", "route"))
    return a, route


def forwards(host) -> str:
    with host.within():
        return Path("/proc/sys/net/ipv6/conf/all/forwarding").read_text().strip()


def test_as_root_a_guest_reaches_the_world_by_ipv6_and_nobody_reaches_it(make_host, closing):  # noqa: F811
    host = make_host(0)
    outside = world(host, closing)
    a, route = leading_out(host, closing)
    assert "no route" in host.client.capabilities()["way_out6"]
    with outside.within():
        echo(closing(socket.create_server(("::", 80), family=socket.AF_INET6)))
    with pytest.raises(OSError):
        a.connect(WORLD, 80, seconds=0.3)
    assert forwards(host) == "0"
    give_ipv6(host, outside)
    host.apply(route, "router")  # or it is seen a few seconds later
    assert host.client.capabilities()["way_out6"] == ""
    connection = a.connect(WORLD, 80)
    connection.settimeout(lab.SECONDS)
    assert connection.recv(100) == b"2001:db8:1::2\n"
    host.stop()
    connection.sendall(b"with nobody there")
    assert connection.recv(100) == b"with nobody there"
    host.start()
    host.apply(route, "router")
    connection.sendall(b"still here")
    assert connection.recv(100) == b"still here"
    # Nothing comes in, and the host forwards for nobody else.
    with host.within():
        echo(closing(socket.create_server(("2001:db8:1::2", 8080), family=socket.AF_INET6)))
    outside.run("ip", "-6", "route", "add", "fd00::/8", "via", "2001:db8:1::2")
    with outside.within(), pytest.raises(OSError):
        socket.create_connection(("fd00:1::10", 22), timeout=0.3)
    with pytest.raises(OSError):
        a.connect("2001:db8:1::2", 8080, seconds=0.3)
    other = closing(lab.Space())
    lab.wire(host, "inside", other, "in")
    host.run("ip", "-6", "addr", "add", "fd77::1/64", "dev", "inside", "nodad")
    other.run("ip", "-6", "addr", "add", "fd77::2/64", "dev", "in", "nodad")
    other.run("ip", "-6", "route", "add", "default", "via", "fd77::1")
    outside.run("ip", "-6", "route", "add", "fd77::/64", "via", "2001:db8:1::2")
    with other.within(), pytest.raises(OSError):
        socket.create_connection((WORLD, 80), timeout=0.3)
    host.client.remove("router", route["id"])
    with pytest.raises(OSError):
        a.connect(WORLD, 80, seconds=0.3)
    assert forwards(host) == "0"


@pytest.mark.skipif(not shutil.which("pasta"), reason="pasta is not installed (Debian: passt)")
def test_as_an_ordinary_user_a_guest_reaches_the_world_by_ipv6(make_host, closing):  # noqa: F811
    host = make_host(lab.NOBODY)
    outside = world(host, closing)
    give_ipv6(host, outside)
    with outside.within():
        echo(closing(socket.create_server(("::", 80), family=socket.AF_INET6)))
    a, _ = leading_out(host, closing)

    def reached() -> bytes:
        with contextlib.suppress(OSError), a.connect(WORLD, 80, seconds=1) as connection:
            return connection.recv(100)
        return b""

    assert lab.wait_for(reached, 15) == b"2001:db8:1::2\n"
