"""A port passes only what is its own: every kind of lie, as frames."""

import contextlib
import shutil
import struct

import pytest

from tests.network.agent import frames, lab

ROGUE = "02:00:00:99:99:99"


@pytest.fixture
def guests(host):
    """`a` lies, `b` listens, `c` is whom `a` pretends to be; everything is let in."""
    rules = [lab.ingress(), lab.ingress(family=6)]
    spec = lab.network(host, rules=rules, a="10.0.0.10 fd00::10", b="10.0.0.11 fd00::11", c="10.0.0.12 fd00::12")
    host.apply(spec)
    guests = {name: host.guest(spec, name) for name in "abc"}
    yield guests
    for guest in guests.values():
        guest.close()


def test_what_is_its_own_arrives(guests):
    a, b = guests["a"], guests["b"]
    assert b.hears(a, frames.udp(a.mac, b.mac, a.ip, b.ip, (1000, 2000)))
    assert b.hears(a, frames.udp(a.mac, b.mac, a.ips[1], b.ips[1], (1000, 2000)))
    assert b.hears(a, frames.ping(a.mac, b.mac, a.ip, b.ip))
    assert b.hears(a, frames.arp(a.mac, a.ip, b.ip))
    assert b.hears(a, frames.neighbour_advertisement(a.mac, b.mac, a.ips[1], b.ips[1], a.ips[1]))
    assert b.hears(a, frames.duplicate_address_detection(a.mac, a.ips[1]))
    assert b.hears(a, frames.arp(a.mac, "0.0.0.0", a.ip))
    assert b.hears(a, frames.arp(a.mac, "0.0.0.0", "10.0.0.200"))


def test_no_lie_arrives(guests):
    a, b, c = (guests[name] for name in "abc")
    all_nodes = "33:33:00:00:00:01"
    lies = {
        "another's MAC": frames.udp(c.mac, b.mac, a.ip, b.ip, (1, 2)),
        "nobody's MAC": frames.udp(ROGUE, b.mac, a.ip, b.ip, (1, 2)),
        "another's address": frames.udp(a.mac, b.mac, c.ip, b.ip, (1, 2)),
        "nobody's address": frames.udp(a.mac, b.mac, "8.8.8.8", b.ip, (1, 2)),
        "the gateway's address": frames.udp(a.mac, b.mac, "10.0.0.1", b.ip, (1, 2)),
        "the metadata address": frames.udp(a.mac, b.mac, "169.254.169.254", b.ip, (1, 2)),
        "another's IPv6 address": frames.udp(a.mac, b.mac, c.ips[1], b.ips[1], (1, 2)),
        "another's link-local address": frames.udp(a.mac, b.mac, "fe80::1", b.ips[1], (1, 2)),
        "ARP for another's address": frames.arp(a.mac, c.ip, b.ip),
        "ARP for another's MAC": frames.arp(a.mac, a.ip, b.ip, sender_mac=c.mac),
        "ARP answer for the gateway": frames.arp(a.mac, "10.0.0.1", b.ip, to=b.mac, reply=True),
        "gratuitous ARP for another": frames.arp(a.mac, c.ip, c.ip, reply=True),
        "ARP probe for another's address": frames.arp(a.mac, "0.0.0.0", c.ip),
        "ARP probe that answers": frames.arp(a.mac, "0.0.0.0", b.ip, reply=True),
        "neighbour advertisement for another": frames.neighbour_advertisement(
            a.mac, all_nodes, a.ips[1], "ff02::1", c.ips[1]
        ),
        "duplicate address detection of another's": frames.duplicate_address_detection(a.mac, c.ips[1]),
        "duplicate address detection of another's, hidden": frames.hidden(
            frames.duplicate_address_detection(a.mac, c.ips[1])
        ),
        "router advertisement": frames.router_advertisement(a.mac, a.ips[1]),
        "redirect": frames.icmpv6(a.mac, b.mac, a.ips[1], b.ips[1], 137, bytes(36)),
        "DHCP server": frames.dhcp(a.mac, 2, client=a.ip, from_server=True),
        "DHCPv6 server": frames.udp(a.mac, b.mac, a.ips[1], b.ips[1], (547, 546)),
        "DHCPv6 server behind an extension header": frames.hidden(
            frames.udp(a.mac, b.mac, a.ips[1], b.ips[1], (547, 546))
        ),
        "router advertisement behind an extension header": frames.hidden(frames.router_advertisement(a.mac, a.ips[1])),
        "router advertisement behind a hop-by-hop header": frames.hidden(
            frames.router_advertisement(a.mac, a.ips[1]), 0
        ),
        "neighbour advertisement for another, hidden": frames.hidden(
            frames.neighbour_advertisement(a.mac, all_nodes, a.ips[1], "ff02::1", c.ips[1])
        ),
        "router advertisement from the bridge's MAC": frames.router_advertisement(
            "02:00:00:fe:fe:02", "fe80::ff:fefe:fe02"
        ),
        "the IPv6 metadata address": frames.udp(a.mac, b.mac, "fd00:ec2::254", b.ips[1], (1, 2)),
        "neighbour advertisement of the metadata address": frames.neighbour_advertisement(
            a.mac, all_nodes, a.ips[1], "ff02::1", "fd00:ec2::254"
        ),
        "VLAN": frames.ethernet(a.mac, b.mac, 0x8100, struct.pack("!HH", 5, 0x0800) + bytes(46)),
        "another protocol than IP": frames.ethernet(a.mac, b.mac, 0x88CC, bytes(46)),
        "spanning tree": frames.ethernet(a.mac, "01:80:c2:00:00:00", 0x0027, b"\x42\x42\x03" + bytes(36)),
    }
    arrived = [lie for lie, frame in lies.items() if b.hears(a, frame)]
    assert arrived == []


def test_what_is_dropped_is_counted_by_reason(host, guests):
    a, b = guests["a"], guests["b"]
    assert not b.hears(a, frames.udp(ROGUE, b.mac, a.ip, b.ip, (1, 2)))
    for _ in range(2):
        assert not b.hears(a, frames.router_advertisement(a.mac, a.ips[1]))
    assert not b.hears(a, frames.tcp(a.mac, b.mac, a.ip, b.ip, (1, 22), frames.ACK))
    ports = host.client.counters()["ports"]
    assert ports[a.id]["dropped"] == {"spoofed_mac": 1, "rogue_router": 2, "not_tracked": 1}
    assert ports[b.id]["dropped"] == {}


def test_frames_for_one_are_not_seen_by_another(guests):
    a, b, c = (guests[name] for name in "abc")
    secret = frames.udp(a.mac, c.mac, a.ip, c.ip, (1000, 2000), b"secret")
    unknown = frames.udp(a.mac, ROGUE, a.ip, "10.0.0.99", (1000, 2000), b"to nobody")
    assert not b.hears(a, secret)
    assert not b.hears(a, unknown)


@pytest.mark.skipif(not shutil.which("arp-scan"), reason="arp-scan is not installed")
def test_arp_scan_finds_each_neighbour_once_and_nobody_of_another_network(host):
    spec, other = lab.network(host, a="10.0.0.10", b="10.0.0.11"), lab.network(host, c="10.0.0.12")
    for each in (spec, other):
        host.apply(each)
    with contextlib.ExitStack() as stack:
        a, b, _ = (
            stack.enter_context(contextlib.closing(lab.Machine(host.guest(each, name))))
            for each, name in ((spec, "a"), (spec, "b"), (other, "c"))
        )
        found = a.run("arp-scan", "--interface=eth0", "--plain", "--quiet", "--retry=5", "10.0.0.0/28")
    assert found.split() == ["10.0.0.11", b.guest.mac]


def test_a_pair_that_is_allowed_may_be_used(host):
    spec = lab.network(host, rules=[lab.ingress()], a="10.0.0.10", b="10.0.0.11")
    virtual = "00:00:5e:00:01:01"
    spec["ports"][0]["allowed_pairs"] = [
        {"address": "10.0.0.100", "mac": virtual},
        {"address": "192.168.0.0/16", "mac": None},
    ]
    host.apply(spec)
    a, b = host.guest(spec, "a"), host.guest(spec, "b")
    assert b.hears(a, frames.arp(virtual, "10.0.0.100", "10.0.0.100", reply=True))
    assert b.hears(a, frames.udp(virtual, b.mac, "10.0.0.100", b.ip, (1, 2)))
    assert b.hears(a, frames.udp(a.mac, b.mac, "192.168.7.7", b.ip, (1, 2)))
    assert not b.hears(a, frames.udp(a.mac, b.mac, "10.0.0.100", b.ip, (1, 2)))
    assert not b.hears(a, frames.udp(virtual, b.mac, "192.168.7.7", b.ip, (1, 2)))
