"""Security groups: what the compiled rules mean, as numbers and as packets."""

import contextlib
import ipaddress
import random
import re
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network.agent import groups
from network.agent.specs import NetworkSpec
from tests.network.agent import frames, lab
from tests.network.agent.frames import ACK, SYN

NETWORKS = [
    ipaddress.ip_network(each)
    for each in ("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "192.168.0.0/16")
]
RANGES = st.tuples(st.integers(0, 20), st.integers(0, 6)).map(lambda each: (each[0], each[0] + each[1]))


@given(st.dictionaries(st.sampled_from(NETWORKS), st.lists(RANGES, min_size=1, max_size=4)))
def test_boxes_cover_the_same_and_do_not_overlap(ranges):
    boxes = groups.disjoint(ranges)
    for address in map(
        ipaddress.ip_address, ("8.8.8.8", "10.9.9.9", "10.1.9.9", "10.1.2.9", "10.1.2.3", "192.168.1.1")
    ):
        for number in range(28):
            wanted = any(address in n and low <= number <= high for n, some in ranges.items() for low, high in some)
            covering = [box for box in boxes if address in box[0] and box[1][0] <= number <= box[1][1]]
            assert len(covering) == int(wanted)


@given(st.lists(RANGES), st.lists(RANGES))
def test_ranges_are_taken_from_ranges(ranges, others):
    left = {
        n for low, high in groups.without(groups.merged(ranges), groups.merged(others)) for n in range(low, high + 1)
    }
    assert left == {n for low, high in ranges for n in range(low, high + 1)} - {
        n for low, high in others for n in range(low, high + 1)
    }


def pair(host, *rules, b_rules=()):
    """Guests `a` and `b` of one network, and its spec; rules are those of their group."""
    spec = lab.network(host, rules=list(rules), a="10.0.0.10 fd00::10", b="10.0.0.11 fd00::11")
    host.apply(spec)
    return spec, host.guest(spec, "a"), host.guest(spec, "b")


def test_nothing_comes_in_unless_a_rule_says_so(host):
    _, a, b = pair(host)
    for frame in (
        frames.udp(a.mac, b.mac, a.ip, b.ip, (1000, 53)),
        frames.udp(a.mac, b.mac, a.ips[1], b.ips[1], (1000, 53)),
        frames.tcp(a.mac, b.mac, a.ip, b.ip, (1000, 22), SYN),
        frames.ping(a.mac, b.mac, a.ip, b.ip),
        frames.ipv4(a.mac, b.mac, a.ip, b.ip, 47, bytes(20)),
    ):
        assert not b.hears(a, frame)


@pytest.mark.parametrize(
    ("rule", "passes", "refused"),
    [
        (lab.ingress("tcp", 22, 22), ("tcp", 22), [("tcp", 21), ("tcp", 23), ("udp", 22), ("ping", 0)]),
        (lab.ingress("tcp", 80, 90), ("tcp", 85), [("tcp", 79), ("tcp", 91)]),
        (lab.ingress("udp"), ("udp", 5), [("tcp", 5), ("ping", 0)]),
        (lab.ingress("icmp", icmp_type=8), ("ping", 0), [("udp", 8), ("tcp", 8)]),
        (lab.ingress("icmp", icmp_type=8, icmp_code=1), None, [("ping", 0)]),
        (lab.ingress("icmp", icmp_type=3), None, [("ping", 0)]),
        (lab.ingress(47), ("gre", 0), [("udp", 47), ("ping", 0)]),
        (lab.ingress(), ("gre", 0), []),
        (lab.ingress("tcp", 22, 22, remote={"cidr": "10.0.0.8/29"}), ("tcp", 22), []),
        (lab.ingress("tcp", 22, 22, remote={"cidr": "10.0.0.16/28"}), None, [("tcp", 22)]),
        (lab.ingress("tcp", 22, 22, family=6), None, [("tcp", 22)]),
    ],
)
def test_a_rule_lets_in_what_it_says(make_host, rule, passes, refused):
    _, a, b = pair(make_host(0), rule)

    def frame(kind, port):
        addresses = (a.mac, b.mac, a.ip, b.ip)
        return {
            "tcp": lambda: frames.tcp(*addresses, (1000 + port, port), SYN),
            "udp": lambda: frames.udp(*addresses, (1000 + port, port)),
            "ping": lambda: frames.ping(*addresses),
            "gre": lambda: frames.ipv4(*addresses, 47, bytes(20)),
        }[kind]()

    assert [each for each in refused if b.hears(a, frame(*each))] == []
    assert passes is None or b.hears(a, frame(*passes))


def test_members_of_a_group_let_each_other_in(host):
    spec = lab.network(host, a="10.0.0.10", b="10.0.0.11")
    group = next(iter(spec["groups"]))
    spec["groups"][group]["rules"].append(lab.ingress("udp", 5, 9, remote={"group": group}))
    other = lab.new_id()
    spec["groups"][other] = {"rules": [lab.ingress() | {"direction": "egress"}], "members": []}
    lab.add_port(spec, "c", "10.0.0.12", groups=[other])
    host.apply(spec)
    a, b, c = (host.guest(spec, name) for name in "abc")
    assert b.hears(a, frames.udp(a.mac, b.mac, a.ip, b.ip, (1, 5)))
    assert not b.hears(a, frames.udp(a.mac, b.mac, a.ip, b.ip, (1, 4)))
    assert not b.hears(c, frames.udp(c.mac, b.mac, c.ip, b.ip, (1, 5)))
    spec["groups"][group]["members"].append("10.0.0.12")
    host.apply(spec)
    assert b.hears(c, frames.udp(c.mac, b.mac, c.ip, b.ip, (1, 5)))


def test_what_may_go_out_is_ruled_too(host):
    spec = lab.network(host, rules=[lab.ingress()], a="10.0.0.10", b="10.0.0.11")
    strict = lab.new_id()
    to_web = lab.ingress("tcp", 80, 80) | {"direction": "egress"}
    spec["groups"][strict] = {"rules": [to_web], "members": []}
    spec["ports"][0]["security_groups"] = [strict]
    host.apply(spec)
    a, b = host.guest(spec, "a"), host.guest(spec, "b")
    assert b.hears(a, frames.tcp(a.mac, b.mac, a.ip, b.ip, (1, 80), SYN))
    assert not b.hears(a, frames.tcp(a.mac, b.mac, a.ip, b.ip, (1, 22), SYN))
    assert not b.hears(a, frames.udp(a.mac, b.mac, a.ip, b.ip, (1, 80)))


def test_answers_pass_and_a_revoked_rule_cuts_the_flow(host):
    rule = lab.ingress("tcp", 22, 22)
    kept = lab.ingress("tcp", 80, 80)
    spec, a, b = pair(host, rule, kept)
    for port in (22, 80):
        open_tcp(a, b, port)
    spec["groups"][spec["ports"][0]["security_groups"][0]]["rules"].remove(rule)
    host.apply(spec)
    data = {port: frames.tcp(a.mac, b.mac, a.ip, b.ip, (4000, port), ACK, (2, 2)) for port in (22, 80)}
    answers = {port: frames.tcp(b.mac, a.mac, b.ip, a.ip, (port, 4000), ACK, (2, 2)) for port in (22, 80)}
    assert b.hears(a, data[80])
    assert a.hears(b, answers[80])
    assert not b.hears(a, data[22])
    assert not a.hears(b, answers[22])


def open_tcp(a, b, port):
    assert b.hears(a, frames.tcp(a.mac, b.mac, a.ip, b.ip, (4000, port), SYN, (1, 0)))
    assert a.hears(b, frames.tcp(b.mac, a.mac, b.ip, a.ip, (port, 4000), SYN | ACK, (1, 2)))
    assert b.hears(a, frames.tcp(a.mac, b.mac, a.ip, b.ip, (4000, port), ACK, (2, 2)))


def test_a_guest_that_leaves_a_group_loses_its_flows(host):
    spec = lab.network(host, a="10.0.0.10", b="10.0.0.11")
    group = next(iter(spec["groups"]))
    spec["groups"][group]["rules"].append(lab.ingress(remote={"group": group}))
    host.apply(spec)
    a, b = host.guest(spec, "a"), host.guest(spec, "b")
    flow = frames.udp(a.mac, b.mac, a.ip, b.ip, (1000, 53))
    answer = frames.udp(b.mac, a.mac, b.ip, a.ip, (53, 1000))
    assert b.hears(a, flow)
    assert a.hears(b, answer)
    spec["groups"][group]["members"].remove(a.ip)
    host.apply(spec)
    assert not b.hears(a, flow)


def test_a_group_of_many_rules_is_taken_quickly_and_means_the_same(make_host):
    chance = random.Random(5)
    rules = [
        lab.ingress(
            chance.choice(["tcp", "udp"]),
            (port := chance.randrange(1, 60000)),
            port + chance.randrange(0, 300),
            remote={"cidr": f"10.{chance.randrange(0, 4)}.0.0/{chance.choice([8, 14, 16])}"} if port % 3 else None,
        )
        for _ in range(1000)
    ]
    for rule in rules:
        if rule["remote"]:
            rule["remote"]["cidr"] = str(ipaddress.ip_network(rule["remote"]["cidr"], strict=False))
    spec, a, b = pair(make_host(0), *rules)
    read = NetworkSpec.read(spec)
    chosen = read.groups.values()
    for _ in range(100):
        protocol, port = chance.choice([("tcp", 6), ("udp", 17)]), chance.randrange(1, 65535)
        addresses = (a.mac, b.mac, a.ip, b.ip)
        frame = frames.tcp(*addresses, (7, port), SYN) if protocol[0] == "tcp" else frames.udp(*addresses, (7, port))
        flow = (ipaddress.ip_address(a.ip), protocol[1], port)
        assert b.hears(a, frame) == groups.permits(chosen, read.groups, "ingress", flow)


@pytest.mark.skipif(not shutil.which("nmap"), reason="nmap is not installed")
def test_nmap_finds_at_a_neighbour_only_what_rules_open(make_host):
    """The neighbour listens on more than that."""
    host = make_host(0)
    opened = [lab.ingress("tcp", 22, 22), lab.ingress("tcp", 8000, 8001), lab.ingress("udp", 53, 53)]
    opened.append(lab.ingress("tcp", 25, 25, remote={"cidr": "10.0.0.99/32"}))  # for somebody else
    spec = lab.network(host, rules=opened, a="10.0.0.10", b="10.0.0.11")
    host.apply(spec)
    with contextlib.ExitStack() as stack:
        a, b = (stack.enter_context(contextlib.closing(lab.Machine(host.guest(spec, name)))) for name in "ab")
        for port in (22, 25, 80, 8000):
            stack.enter_context(b.listen(port))

        def found(how: str, ports: str) -> set[tuple[int, str]]:
            """Ports of which it says something certain: who is filtered gives no answer."""
            told = a.run("nmap", "-n", "-Pn", how, "-p", ports, "-oG", "-", "10.0.0.11")
            seen = re.findall(r"(\d+)/([a-z|]+)/", told)
            return {(int(port), state) for port, state in seen if "filtered" not in state}

        assert found("-sS", "1-100,7990-8010") == {(22, "open"), (8000, "open"), (8001, "closed")}
        assert found("-sU", "51-55") == {(53, "closed")}
