"""Networks that span hosts: VXLAN between them, told who is where, and closed to everybody else."""

import contextlib
import itertools
import socket
import struct

import pytest

from network.agent.routers import leg_mac
from network.agent.specs import link_local
from tests.network.agent import frames, lab


@pytest.fixture
def hosts(make_host):
    """Three hosts on one wire, 192.0.2.1 to 192.0.2.3."""
    hosts = [make_host(0) for _ in range(3)]
    with contextlib.closing(lab.Space()) as switch:
        switch.run("ip", "link", "add", "br0", "type", "bridge")
        switch.run("ip", "link", "set", "br0", "up")
        for number, host in enumerate(hosts, 1):
            lab.wire(host, "uplink", switch, f"host{number}")
            switch.run("ip", "link", "set", f"host{number}", "master", "br0")
            host.run("ip", "addr", "add", f"192.0.2.{number}/24", "dev", "uplink")
            host.run("ip", "addr", "add", f"fd00::{number}/64", "dev", "uplink", "nodad")  # most hosts have both
            host.run("ip", "route", "add", "default", "via", "192.0.2.254")
            assert host.client.capabilities()["vtep"] == f"192.0.2.{number}"
        yield hosts


def spread(hosts, count=2, **more):
    """A network on the first hosts with a guest on each: its spec for each of them."""
    hosts = hosts[:count]
    one = lab.network(hosts[0], **more)
    group = next(iter(one["groups"]))
    for number, host in enumerate(hosts):
        addresses = f"10.0.0.{10 + number}" + (f" fd00:1::{10 + number}" if "cidr6" in more else "")
        lab.add_port(one, "abc"[number], addresses, groups=[group], host=host.id)
    one["peers"] = [{"host": host.id, "vtep": f"192.0.2.{number}"} for number, host in enumerate(hosts, 1)]
    return [one, *(one | {"id": lab.new_id(), "host": host.id} for host in hosts[1:])]


def test_guests_on_two_hosts_reach_each_other_and_rules_hold_between_them(hosts):
    specs = spread(hosts, rules=[lab.ingress("udp", 53, 53)])
    for host, spec in zip(hosts, specs, strict=False):
        host.apply(spec)
    a, b = hosts[0].guest(specs[0], "a"), hosts[1].guest(specs[1], "b")
    assert b.hears(a, frames.udp(a.mac, b.mac, a.ip, b.ip, (1000, 53)))
    assert not b.hears(a, frames.udp(a.mac, b.mac, a.ip, b.ip, (1000, 54)))
    assert a.hears(b, frames.udp(b.mac, a.mac, b.ip, a.ip, (53, 1000)))
    # The address of the other is known here: the question does not have to cross the wire.
    a.send(frames.arp(a.mac, a.ip, b.ip))
    answer = a.receive(lambda frame: frame[12:14] == b"\x08\x06" and frame[28:32] == frames.ip(b.ip))
    assert answer
    assert answer[22:28] == frames.mac(b.mac)


def test_another_network_with_the_same_addresses_hears_nothing(hosts):
    first, second = spread(hosts, rules=[lab.ingress()]), spread(hosts, rules=[lab.ingress()])
    for specs in (first, second):
        for host, spec in zip(hosts, specs, strict=False):
            host.apply(spec)
    a, other = hosts[0].guest(first[0], "a"), hosts[1].guest(second[1], "b")
    b = hosts[1].guest(first[1], "b")
    assert b.hears(a, frames.udp(a.mac, frames.BROADCAST, a.ip, "10.0.0.255", (1, 2), b"of the first"))
    assert not other.receive(lambda frame: b"of the first" in frame, 0.2)


def test_a_port_that_moves_is_followed(hosts):
    specs = spread(hosts, rules=[lab.ingress()])
    for host, spec in zip(hosts, specs, strict=False):
        host.apply(spec)
    a = hosts[0].guest(specs[0], "a")
    for spec in specs:
        spec["ports"] = [port | {"host": hosts[0].id} for port in spec["ports"]]
    for host, spec in zip(hosts, specs, strict=False):
        host.apply(spec)
    b = hosts[0].guest(specs[0], "b")
    assert b.hears(a, frames.udp(a.mac, b.mac, a.ip, b.ip, (1, 2)))


def test_it_spans_three_hosts_and_one_that_leaves_may_send_nothing_into_it_any_more(hosts):
    specs = spread(hosts, count=3, rules=[lab.ingress()])
    for host, spec in zip(hosts, specs, strict=True):
        host.apply(spec)
    guests = [host.guest(spec, name) for host, spec, name in zip(hosts, specs, "abc", strict=True)]
    for one, other in itertools.permutations(guests, 2):
        assert other.hears(one, frames.udp(one.mac, other.mac, one.ip, other.ip, (1, 2)))
    a, b, c = guests
    c.close()
    hosts[2].client.remove("network", specs[2]["id"])
    for host, spec in zip(hosts[:2], specs[:2], strict=True):
        for things in ("ports", "peers"):
            spec[things] = [thing for thing in spec[things] if thing["host"] != hosts[2].id]
        host.apply(spec)
    vni = specs[0]["network"]["vni"]

    def inject(space, number: int) -> None:
        inner = frames.udp(a.mac, b.mac, a.ip, b.ip, (1, 2), b"from host %d" % number)
        with space.within(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(struct.pack("!II", 0x08000000, vni << 8) + inner, ("192.0.2.2", 4789))

    inject(hosts[2], 3)
    inject(hosts[0], 1)
    heard = b.receive(lambda frame: b"from host" in frame)
    assert heard
    assert b"from host 1" in heard


def test_ipv6_crosses_and_every_guest_is_told_of_routers_by_its_own_host_alone(hosts):
    specs = spread(hosts, cidr6="fd00:1::/64", rules=[lab.ingress("udp", 53, 53, family=6)])
    route = lab.router((specs[0], "fd00:1::1/64"))
    for host, spec in zip(hosts, specs, strict=False):
        host.apply(spec)
        host.apply(route | {"id": lab.new_id()}, "router")  # the same router, a part of it on each host
    a, b = hosts[0].guest(specs[0], "a"), hosts[1].guest(specs[1], "b")
    assert b.hears(a, frames.udp(a.mac, b.mac, a.ips[1], b.ips[1], (1000, 53)))
    assert not b.hears(a, frames.udp(a.mac, b.mac, a.ips[1], b.ips[1], (1000, 54)))
    assert a.hears(b, frames.udp(b.mac, a.mac, b.ips[1], a.ips[1], (53, 1000)))
    # One answer comes to a question, though the router is on both hosts: the question does not cross.

    def is_told(frame: bytes) -> bool:
        return frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 134

    told = []
    for guest in (a, b):  # the host of `b` has answered `a`, if it does, before it answers `b`
        own = str(link_local(guest.mac))
        guest.send(frames.icmpv6(guest.mac, "33:33:00:00:00:02", own, "ff02::2", 133, bytes(4)))
        told.append(guest.receive(is_told))
    router_mac = frames.mac(leg_mac(route["router"]["id"], specs[0]["network"]["id"]))
    assert [frame and frame[6:12] for frame in told] == [router_mac, router_mac]
    last = frames.udp(b.mac, a.mac, b.ips[1], a.ips[1], (53, 1000), b"the last")
    b.send(last)
    heard = []
    assert a.receive(lambda frame: heard.append(frame) or frame == last)
    assert not any(is_told(frame) for frame in heard)
