"""DNS: names of a network's machines, and everything else by the host's resolvers."""

import socket
import struct
import threading

import pytest

from network.agent import dns
from network.agent.specs import NetworkSpec
from tests.network.agent import frames, lab

SERVER = "169.254.169.254"
A, PTR, AAAA, MX = 1, 12, 28, 15


def question(name: str, kind: int = A, number: int = 7) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def answers(message: bytes, asked: bytes) -> tuple[int, list[bytes]]:
    """The code, and the data of each record."""
    number, flags, _, records = struct.unpack_from("!HHHH", message)
    assert number == struct.unpack_from("!H", asked)[0]
    found, at = [], len(asked)
    for _ in range(records):
        (length,) = struct.unpack_from("!H", message, at + 10)
        found.append(message[at + 12 : at + 12 + length])
        at += 12 + length
    return flags & 15, found


def ask(guest, name: str, kind: int = A) -> tuple[int, list[bytes]]:
    """As a guest asks, by the metadata address on the bridge."""
    asked = question(name, kind)
    guest.send(frames.udp(guest.mac, "02:00:00:fe:fe:02", guest.ip, SERVER, (5353, 53), asked))
    heard = guest.receive(lambda frame: frame[12:14] == b"\x08\x00" and frame[34:36] == b"\x00\x35")
    assert heard, "no answer"
    return answers(heard[42:], asked)


def test_machines_of_the_network_have_names_and_those_of_others_do_not(host):
    spec = lab.network(host, web="10.0.0.10 fd00::10", db="10.0.0.11")
    other = lab.network(host, secret="10.0.0.12")
    other["network"]["domain"] = "other.demo.internal"
    for each in (spec, other):
        host.apply(each)
    web = host.guest(spec, "web")
    assert ask(web, "db.default.demo.internal") == (0, [frames.ip("10.0.0.11")])
    assert ask(web, "DB") == (0, [frames.ip("10.0.0.11")])
    assert ask(web, "web.default.demo.internal", AAAA) == (0, [frames.ip("fd00::10")])
    assert ask(web, "db.default.demo.internal", AAAA) == (0, [])
    assert ask(web, "db.default.demo.internal", MX) == (0, [])
    assert ask(web, "nobody.default.demo.internal") == (3, [])
    assert ask(web, "11.0.0.10.in-addr.arpa", PTR) == (0, [b"\x02db\x07default\x04demo\x08internal\0"])
    assert ask(web, "secret.other.demo.internal")[0] != 0
    spec["ports"][1]["name"] = "database"
    host.apply(spec)
    assert ask(web, "database") == (0, [frames.ip("10.0.0.11")])


def test_names_of_the_projects_other_networks_are_known_with_their_domain(host):
    spec, back = lab.network(host, web="10.0.0.10"), lab.network(host, cidr="10.9.0.0/24", db="10.9.0.11")
    back["network"] |= {"domain": "back.internal", "project": spec["network"]["project"]}
    for each in (spec, back):
        host.apply(each)
    web = host.guest(spec, "web")
    assert ask(web, "db.back.internal") == (0, [frames.ip("10.9.0.11")])
    assert ask(web, "nobody.back.internal") == (3, [])
    assert ask(web, "11.0.9.10.in-addr.arpa", PTR) == (0, [b"\x02db\x04back\x08internal\0"])
    assert ask(web, "db")[1] == []
    host.client.remove("network", back["id"])
    assert ask(web, "db.back.internal")[1] == []


@pytest.mark.parametrize("message", [b"", bytes(12), bytes(40), question("web")[:-1], question("web" * 20)[:30]])
def test_rubbish_is_not_answered(message):
    assert dns.answer(message, NetworkSpec.read(lab.network(web="10.0.0.10"))) is None
    assert dns.failure(b"\xff" * len(message)) is None


def test_what_is_beyond_is_asked_of_the_hosts_resolvers(tmp_path, monkeypatch):
    """The first answer comes back under the guest's own number, and only from whom was asked."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        resolver.bind(("127.0.0.1", 0))
        resolver.settimeout(lab.SECONDS)
        monkeypatch.setattr(dns, "PORT", resolver.getsockname()[1])
        ends = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
        heard, guest, stranger = ends
        for end in ends:
            end.bind(("127.0.0.1", 0))
            end.settimeout(lab.SECONDS)
        configuration = tmp_path / "resolv.conf"
        configuration.write_text("search x\nnameserver 127.0.0.1\n")
        out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        out.bind(("127.0.0.1", 0))
        out.settimeout(lab.SECONDS)
        forwarder = dns.Forwarder({4: out}, configuration)
        asked = question("debian.org", number=99)
        forwarder.ask(asked, heard, guest.getsockname())
        passed, source = resolver.recvfrom(1000)
        assert passed[2:] == asked[2:]
        stranger.sendto(passed[:2] + b"a lie", out.getsockname())
        forwarder.hear(out)
        resolver.sendto(passed[:2] + b"the truth", source)
        forwarder.hear(out)
        assert guest.recv(1000) == asked[:2] + b"the truth"
        configuration.write_text("")
        forwarder.ask(asked, heard, guest.getsockname())
        assert answers(guest.recv(1000), asked) == (2, [])
        for end in (*ends, out):
            end.close()
    assert threading.active_count() >= 1


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_guest_with_many_open_questions_leaves_some_for_others(tmp_path, monkeypatch, address):
    """By resolvers of either version of IP."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def made() -> socket.socket:
        end = socket.socket(family, socket.SOCK_DGRAM)
        end.bind((address, 0))
        end.settimeout(lab.SECONDS)
        return end

    resolver, heard, greedy, modest, out = (made() for _ in range(5))
    monkeypatch.setattr(dns, "PORT", resolver.getsockname()[1])
    monkeypatch.setattr(dns, "_guest", lambda heard, source: (0, str(source[1])))  # both have the test's own address
    configuration = tmp_path / "resolv.conf"
    configuration.write_text(f"nameserver {address}\n")
    forwarder = dns.Forwarder({6 if ":" in address else 4: out}, configuration)
    asked = question("debian.org", number=99)
    for _ in range(dns.MAX_WAITING_OF_GUEST + 1):
        forwarder.ask(asked, heard, greedy.getsockname())
    assert answers(greedy.recv(1000), asked) == (2, [])
    for _ in range(dns.MAX_WAITING_OF_GUEST):
        resolver.recvfrom(1000)
    forwarder.ask(asked, heard, modest.getsockname())
    passed, source = resolver.recvfrom(1000)
    resolver.sendto(passed[:2] + b"the truth", source)
    forwarder.hear(out)
    assert modest.recv(1000) == asked[:2] + b"the truth"
    # What nobody has answered is given up after a while.
    later = dns.time.monotonic() + dns.SECONDS_TO_WAIT + 1
    monkeypatch.setattr(dns.time, "monotonic", lambda: later)
    forwarder.ask(asked, heard, greedy.getsockname())
    assert resolver.recv(1000)[2:] == asked[2:]
    for end in (resolver, heard, greedy, modest, out):
        end.close()
