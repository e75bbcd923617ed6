"""What a host sees of a guest: its NIC, its lease, and what it answers, whatever its security groups say."""

import asyncio
import contextlib
import random
import socket

import pytest

from agent.channels import NotOpened
from agent.errors import NoAnswer, Refused
from network.agent import dhcp
from network.agent.leases import Heard, Leases
from network.agent.questions import Question
from network.agent.servers import MAX_AT_ONCE, Probes
from network.agent.specs import NetworkSpec
from tests.network.agent import frames, lab
from tests.network.agent.test_routers import closing  # noqa: F401

PREFIX = "fd00:1::/64"


@pytest.fixture
def led(host, closing):  # noqa: F811
    """A closed network with a router, and a machine on it that listens on TCP port 80 and UDP port 53."""
    spec = lab.network(host, cidr6=PREFIX, a="10.0.0.10 fd00:1::10")
    host.apply(spec)
    host.apply(lab.router((spec, "10.0.0.1/24"), (spec, "fd00:1::1/64")), "router")
    machine = closing(lab.Machine(host.guest(spec, "a"), gateway="10.0.0.1"))
    machine.run("ip", "addr", "add", "fd00:1::10/64", "dev", "eth0", "nodad")
    with machine.within():
        server = closing(socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True))
        names = closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        names.bind(("::", 53))
    server.setblocking(False)
    return spec, machine, server


def wait_for_answer(host, answer: str, *asked) -> None:
    """A machine that has much to do may be silent at first."""

    def answers() -> bool:
        seen = host.client.probe(*asked)
        return (seen["nic"], seen["is_there"], seen["answer"]) == ("up", True, answer)

    lab.wait_for(answers, 30)


def test_it_tells_what_listens_from_what_does_not(host, led):
    spec, machine, server = led
    port = spec["ports"][0]["id"]
    for address in ("10.0.0.10", "fd00:1::10"):
        for protocol, number, answer in (
            ("tcp", 80, "open"),
            ("tcp", 81, "refused"),
            ("udp", 54, "refused"),
            ("icmp", None, "open"),
        ):
            wait_for_answer(host, answer, port, address, protocol, number)
    with pytest.raises(BlockingIOError):
        server.accept()  # no program has heard of it
    machine.run("sysctl", "-w", "net.ipv4.icmp_echo_ignore_all=1")
    wait_for_answer(host, "silent", port, "10.0.0.10", "icmp")


def test_the_nic_and_what_it_was_told_by_dhcp(host):
    spec = lab.network(host, a="10.0.0.10", b="10.0.0.11")
    host.apply(spec)
    port = spec["ports"][0]["id"]

    def look() -> dict:
        return host.client.probe(port, "10.0.0.10", "tcp", 22)

    seen = look()
    assert (seen["nic"], seen["lease"], seen["is_there"], seen["answer"]) == ("absent", None, None, None)
    a, b = host.guest(spec, "a"), host.guest(spec, "b")
    a.send(frames.dhcp(a.mac, 3, wanted="10.0.0.10"))
    assert a.receive(frames.is_dhcp_answer)
    assert not a.hears(b, frames.udp(b.mac, a.mac, b.ip, a.ip, (1, 2)))
    seen = look()
    assert (seen["nic"], seen["is_there"], seen["answer"]) == ("up", False, "silent")
    assert (seen["lease"]["kind"], seen["lease"]["address"]) == ("given", "10.0.0.10")
    assert 0 <= seen["lease"]["seconds_ago"] <= seen["watched_seconds"]
    assert seen["dropped"]["ingress_refused"] >= 1
    a.close()
    assert look()["nic"] == "idle"
    with pytest.raises(Refused, match="does not have the address"):
        host.client.probe(port, "10.0.0.11", "tcp", 22)
    for protocol, number in (("sctp", 22), ("tcp", 0), ("tcp", None)):
        with pytest.raises(Refused):
            host.client.probe(port, "10.0.0.10", protocol, number)


def test_it_tells_what_came_of_what_a_guest_sent(host, closing):  # noqa: F811
    spec = lab.network(host, rules=[lab.ingress("tcp", 80, 82)], a="10.0.0.10", b="10.0.0.11")
    host.apply(spec)
    a, b = (closing(lab.Machine(host.guest(spec, name))) for name in "ab")
    closing(b.listen(80))

    def tried(number: int) -> str:
        towards = {"address": "10.0.0.11", "protocol": "tcp", "number": number}
        return host.client.probe(spec["ports"][0]["id"], "10.0.0.10", "icmp", towards=towards)["tried"]

    assert tried(80) == "nothing"
    a.connect("10.0.0.11", 80).close()
    assert tried(80) == "answered"
    b.run("ip", "route", "add", "blackhole", "10.0.0.10/32")
    with pytest.raises(TimeoutError):
        a.connect("10.0.0.11", 81, seconds=0.2)
    assert (tried(80), tried(81), tried(82)) == ("answered", "unanswered", "nothing")
    for wrong in ({"protocol": "sctp"}, {"number": None}, {"address": "web"}):
        towards = {"address": "10.0.0.11", "protocol": "tcp", "number": 80, **wrong}
        with pytest.raises(Refused):
            host.client.probe(spec["ports"][0]["id"], "10.0.0.10", "icmp", towards=towards)


def test_each_answer_of_dhcp_is_noted(closing):  # noqa: F811
    spec = NetworkSpec.read(lab.network(a="10.0.0.10 fd00:1::10", cidr6=PREFIX))
    port = spec.ports[0]
    pairs = [[closing(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)] for _ in range(2)]
    (guest, heard), (sent, _) = pairs
    expected = ((1, "", "offered"), (3, "10.0.0.10", "given"), (3, "10.0.0.99", "refused"), (8, "", None))
    for kind, wanted, told in expected:
        guest.send(frames.dhcp(port.mac, kind, wanted=wanted)[42:])
        noted = dhcp.serve(dhcp.Sockets(heard, sent), spec)
        assert (noted.kind if noted else None) == told
    leases = Leases()
    leases.note(Heard(port.id, 4, "given", port.addresses[0]))
    leases.note(None)
    assert leases.describe(port.id, 4)["lease"] == {"kind": "given", "address": "10.0.0.10", "seconds_ago": 0}
    assert leases.describe(port.id, 6)["lease"] is None
    leases.keep(set())
    assert leases.describe(port.id, 4)["lease"] is None


def test_whatever_a_guest_sends_is_no_answer_and_no_fault():
    chance = random.Random(7)  # noqa: S311
    spec = NetworkSpec.read(lab.network(a="10.0.0.10 fd00:1::10", cidr6=PREFIX))
    port = spec.ports[0]
    for address in port.addresses:
        source = next(iter(subnet.network[1] for subnet in spec.subnets.values() if address in subnet.network))
        for protocol, number in (("tcp", 22), ("udp", 53), ("icmp", None)):
            question = Question(port.mac, address, "02:00:00:00:00:01", source, protocol, number)
            for frame in [*question.frames, question.farewell] if number else question.frames:
                for _ in range(200):
                    mangled = bytearray(frame[: chance.randrange(len(frame) + 1)])
                    for _ in range(chance.randrange(4)):
                        with contextlib.suppress(ValueError):
                            mangled[chance.randrange(len(mangled))] = chance.randrange(256)
                    question.hear(bytes(mangled))
            assert question.answer == ""


class Process:
    """A network process that says this, or fails like this."""

    def __init__(self, said) -> None:
        self.said = said

    def probe(self, *asked, **beside):
        if isinstance(self.said, Exception):
            raise self.said
        return {"asked": asked, "beside": beside}


class Opened:
    """A channel that notes its facts."""

    facts: dict | None = None

    async def opened(self, **facts) -> None:
        self.facts = facts


def test_the_node_service_asks_the_process_and_says_why_it_cannot():
    wish = {
        "what": "probe",
        "port": "p",
        "address": "10.0.0.10",
        "protocol": "tcp",
        "number": 22,
        "outside": "192.0.2.9",
    }

    async def serve(said, under_way: int = 0) -> dict | None:
        probes, channel = Probes(Process(said)), Opened()
        probes._under_way = under_way
        await probes.serve(channel, wish)
        assert probes._under_way == under_way
        return channel.facts

    beside = {"outside": "192.0.2.9", "towards": None}
    assert asyncio.run(serve(None)) == {"seen": {"asked": ("p", "10.0.0.10", "tcp", 22), "beside": beside}}
    for said, under_way, code in (
        (Refused("no network of this host has a port p"), 0, "refused"),
        (NoAnswer("timed out"), 0, "not_running"),
        (None, MAX_AT_ONCE, "busy"),
    ):
        with pytest.raises(NotOpened) as refusal:
            asyncio.run(serve(said, under_way))
        assert refusal.value.code == code
