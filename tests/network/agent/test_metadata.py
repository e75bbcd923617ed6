"""Metadata: each guest reads its own, with a session token where the tree has them, and nobody else's."""

import contextlib
import json
import signal
import socket
import threading
import time

import h11
import pytest

from agent.errors import Refused
from network.agent import metadata
from network.agent.metadata import Guest
from tests.network.agent import lab
from tests.network.agent.test_routers import closing  # noqa: F401

ADDRESS = "169.254.169.254"
TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"  # noqa: S105


def pages(name: str) -> dict[str, str]:
    return {
        "openstack/latest/meta_data.json": json.dumps({"uuid": name}),
        "openstack/latest/user_data": f"#!/bin/sh\necho {name}\n",
        "latest/meta-data/instance-id": name,
        "latest/meta-data/public-keys": "0=key-0",
        "latest/meta-data/public-keys/0/openssh-key": "ssh-ed25519 AAAA",
        "latest/user-data": f"#!/bin/sh\necho {name}\n",
        "nocloud/meta-data": "{}",
    }


def raw(machine, data: bytes, address: str = ADDRESS) -> bytes:
    """What comes back for bytes on a connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError), machine.connect(address, 80, seconds=lab.SECONDS) as connection:
        connection.sendall(data)
        while part := connection.recv(1 << 16):
            received += part
    return received


def ask(machine, path: str, method: str = "GET", address: str = ADDRESS, **headers: str) -> tuple[int, str]:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {headers.pop('host', address)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head, _, body = raw(machine, ("\r\n".join(lines) + "\r\n\r\n").encode(), address).partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


@pytest.fixture
def two(host, closing):  # noqa: F811
    """Machines `a` and `b` of one network, and its spec."""
    spec = lab.network(host, a="10.0.0.10", b="10.0.0.11")
    host.apply(spec)
    for port in spec["ports"]:
        host.client.introduce(port["id"], pages(port["name"]))
    a, b = (closing(lab.Machine(host.guest(spec, name))) for name in "ab")
    for machine in (a, b):
        machine.run("ip", "route", "add", ADDRESS, "dev", "eth0")  # as DHCP gives it
    return a, b, spec


def reads_itself(machine, name: str) -> bool:
    return ask(machine, "/openstack/latest/meta_data.json") == (200, json.dumps({"uuid": name}))


def test_each_guest_reads_its_own_by_every_tree(host, two):
    a, b, _ = two
    assert reads_itself(a, "a")
    assert reads_itself(b, "b")
    assert "2018-08-27" in ask(a, "/openstack")[1].split()
    assert ask(b, "/openstack/2018-08-27/user_data") == (200, "#!/bin/sh\necho b\n")
    assert ask(a, "/nocloud/meta-data") == (200, "{}")
    assert ask(a, "/openstack/latest/password")[0] == 404
    token = ask(a, "/latest/api/token", "PUT", **{TTL: "60"})[1]
    assert ask(a, "/latest/meta-data/instance-id", **{TOKEN: token}) == (200, "a")
    assert ask(a, "/2009-04-04/meta-data/", **{TOKEN: token}) == (200, "instance-id\npublic-keys/")
    assert ask(a, "/latest/meta-data/public-keys/", **{TOKEN: token}) == (200, "0=key-0")
    assert ask(a, "/latest/meta-data/public-keys/0/openssh-key", **{TOKEN: token}) == (200, "ssh-ed25519 AAAA")
    assert ask(a, "/latest/user-data", "HEAD", **{TOKEN: token}) == (200, "")


def test_a_token_is_needed_and_is_its_own_guests(host, two):
    a, b, _ = two
    token = ask(a, "/latest/api/token", "PUT", **{TTL: "60"})[1]
    assert ask(a, "/latest/user-data")[0] == 401
    assert ask(a, "/latest/user-data", **{TOKEN: "x" + token[1:]})[0] == 401
    assert ask(b, "/latest/user-data", **{TOKEN: token})[0] == 401
    assert ask(a, "/latest/user-data", **{TOKEN: token})[0] == 200
    host.stop(signal.SIGKILL)
    host.start()
    assert ask(a, "/latest/user-data", **{TOKEN: token})[0] == 200


def test_what_was_passed_on_by_somebody_is_refused(host, two):
    a, _, _ = two
    path = "/openstack/latest/user_data"
    assert ask(a, path, X_Forwarded_For="10.0.0.11")[0] == 403
    assert ask(a, path, Forwarded="for=10.0.0.11")[0] == 403
    assert ask(a, path, host="rebound.example")[0] == 403
    assert ask(a, "/latest/api/token", "PUT", **{TTL: "60", "X-Forwarded-For": "10.0.0.11"})[0] == 403
    assert ask(a, f"http://{ADDRESS}{path}")[0] == 400
    assert ask(a, path, "POST")[0] == 405
    for wrong in ("0", "21601", "1e3", "-5", ""):
        assert ask(a, "/latest/api/token", "PUT", **{TTL: wrong})[0] == 400
    # Answers go no further than one hop: not to a container behind the guest.
    with a.within(), socket.socket() as connection:
        connection.connect((ADDRESS, 80))
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as wire:
            wire.settimeout(lab.SECONDS)
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert wire.recv(100)[8] == 1


def test_a_neighbours_address_gets_a_liar_nothing(host, two):
    a, b, spec = two
    # Its tenant even lets it use the address of the other, as for one that both share.
    spec["ports"][0]["allowed_pairs"] = [{"address": "10.0.0.11", "mac": None}, {"address": "0.0.0.0/0", "mac": None}]
    host.apply(spec)
    a.run("ip", "addr", "add", "10.0.0.11/32", "dev", "eth0")
    with a.within(), socket.socket() as liar:
        liar.settimeout(0.5)
        liar.bind(("10.0.0.11", 0))
        with pytest.raises(TimeoutError):
            liar.connect((ADDRESS, 80))
    assert reads_itself(a, "a")
    assert reads_itself(b, "b")
    assert host.client.counters()["ports"][a.guest.id]["dropped"]["spoofed_address"] > 0


def test_it_works_without_a_route_of_its_own_by_way_of_the_gateway(host, closing):  # noqa: F811
    spec = lab.network(host, a="10.0.0.10")
    host.apply(spec)
    host.apply(lab.router((spec, "10.0.0.1/24")), "router")
    host.client.introduce(spec["ports"][0]["id"], pages("a"))
    a = closing(lab.Machine(host.guest(spec, "a"), gateway="10.0.0.1"))
    assert reads_itself(a, "a")
    a.run("ip", "route", "del", "default")
    a.run("ip", "route", "add", "169.254.0.0/16", "dev", "eth0")  # as a link-local route of the guest's own
    assert reads_itself(a, "a")


def test_one_guest_cannot_take_it_from_another(host, two):
    a, b, _ = two
    with contextlib.ExitStack() as stack:
        open_ones = 0  # of many that say nothing most are closed at once
        for _ in range(60):
            with contextlib.suppress(ConnectionResetError):
                silent = stack.enter_context(a.connect(ADDRESS, 80, lab.SECONDS))
                silent.settimeout(0.05)
                try:
                    silent.recv(1)
                except TimeoutError:
                    open_ones += 1
        assert open_ones == metadata.MAX_CONNECTIONS
        assert reads_itself(b, "b")
    # One that asks without end is answered less, its neighbour all the same.
    ended = threading.Event()

    def flood() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                raw(a, b"GET /openstack HTTP/1.0\r\n\r\n")

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        began = time.monotonic()
        assert all(reads_itself(b, "b") for _ in range(20))
        assert time.monotonic() - began < lab.SECONDS
    finally:
        ended.set()
        flooding.join()


def test_what_is_not_http_is_told_so_and_what_is_too_long_is_cut(host, two):
    a, _, _ = two
    assert raw(a, b"\x16\x03\x01\x00\xa5\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert raw(a, b"GET / HTTP/1.1\r\nHost: " + b"x" * 20000).startswith((b"HTTP/1.1 431 ", b""))
    assert raw(a, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert reads_itself(a, "a")
    assert ask(a, "/openstack/latest/user_data", "PUT", Content_Length="5")[0] == 405


def test_what_a_guest_could_read_is_gone_with_it(host, two):
    a, b, spec = two
    first, second = spec["ports"]
    files = host.runtime / "network" / "namespaces"

    def kept() -> set[str]:
        anchor = (host.runtime / "network" / "anchor").read_text().split()[0]
        listed = host.run("nsenter", "--mount", "--target", anchor, "find", str(files), "-name", "guest-*")
        return {line.rpartition("guest-")[2] for line in listed.split()}

    assert kept() == {first["id"], second["id"]}
    host.client.unplug(first["id"])
    assert kept() == {second["id"]}
    # Another machine that gets the port finds nothing of the one before.
    host.client.introduce(first["id"], {"openstack/latest/meta_data.json": "{}"})
    again = lab.Machine(host.guest(spec, "a"))
    again.run("ip", "route", "add", ADDRESS, "dev", "eth0")
    try:
        assert ask(again, "/openstack/latest/user_data")[0] == 404
    finally:
        again.close()
    spec["ports"].remove(second)
    host.apply(spec)
    assert kept() == {first["id"]}
    host.client.remove("network", spec["id"])
    assert kept() == set()
    with pytest.raises(Refused, match="no network of this host has a port"):
        host.client.introduce(first["id"], {})


def test_a_port_whose_machine_is_unknown_reads_nothing(host, closing):  # noqa: F811
    spec = lab.network(host, a="10.0.0.10")
    host.apply(spec)
    a = closing(lab.Machine(host.guest(spec, "a"), gateway="10.0.0.1"))
    a.run("ip", "route", "add", ADDRESS, "dev", "eth0")
    assert ask(a, "/openstack/latest/meta_data.json")[0] == 404
    assert ask(a, "/latest/api/token", "PUT", **{TTL: "60"})[0] == 404


def test_pages_are_bounded(host):
    spec = lab.network(host, a="10.0.0.10")
    host.apply(spec)
    port = spec["ports"][0]["id"]
    for wrong in ({"a": "x" * (metadata.MAX_PAGES + 1)}, {"a": 5}, []):
        with pytest.raises(Refused, match="pages of a guest"):
            host.client.introduce(port, wrong)


def test_a_token_ends(monkeypatch):
    guest = Guest.introduced({"latest/user-data": "x"}, None)
    token = guest.token(60)
    headers = [("Host", ADDRESS), (TOKEN, token)]
    request = h11.Request(method="GET", target="/latest/user-data", headers=headers)
    assert metadata.answer(request, guest).status == 200
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert metadata.answer(request, guest).status == 401
