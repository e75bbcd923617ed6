"""Routers: between networks, out to a world that a namespace plays, and in by ports of the host."""

import contextlib
import socket
import threading
import time

import pytest

from tests.network.agent import frames, lab


@pytest.fixture
def closing():
    with contextlib.ExitStack() as stack:
        yield lambda thing: stack.enter_context(contextlib.closing(thing))


def echo(server: socket.socket) -> None:
    """Serve connections: each is told the address that it comes from, then gets back what it sends."""

    def talk(client: socket.socket, address: str) -> None:
        with client, contextlib.suppress(OSError):
            client.sendall(f"{address}\n".encode())
            while data := client.recv(65536):
                client.sendall(data)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, (address, *_) = server.accept()
                threading.Thread(target=talk, args=(client, address), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()


def first_line(connection: socket.socket) -> str:
    connection.settimeout(lab.SECONDS)
    with connection, connection.makefile() as lines:
        return lines.readline().strip()


def world(host, closing) -> lab.Space:
    """A world outside of the host, which leads to it; 203.0.113.1 is somebody there."""
    outside = closing(lab.Space())
    lab.wire(host, "uplink", outside, "up")
    host.run("ip", "addr", "add", "192.0.2.2/24", "dev", "uplink")
    host.run("ip", "route", "add", "default", "via", "192.0.2.1")
    outside.run("ip", "addr", "add", "192.0.2.1/24", "dev", "up")
    outside.run("ip", "addr", "add", "203.0.113.1/32", "dev", "lo")
    return outside


def test_networks_of_one_router_reach_each_other_if_the_groups_say_so(host, closing):
    one = lab.network(host, cidr="10.0.1.0/24", a="10.0.1.10")
    two = lab.network(host, cidr="10.0.2.0/24", rules=[lab.ingress("tcp", 80, 80)], b="10.0.2.10")
    route = lab.router((one, "10.0.1.1/24"), (two, "10.0.2.1/24"))
    host.apply(one)
    host.apply(route, "router")
    host.apply(two)  # after its router
    a = closing(lab.Machine(host.guest(one, "a"), gateway="10.0.1.1"))
    b = closing(lab.Machine(host.guest(two, "b"), gateway="10.0.2.1"))
    for port in (80, 81):
        echo(closing(b.listen(port)))
    assert first_line(a.connect("10.0.2.10", 80)) == "10.0.1.10"
    with pytest.raises(TimeoutError):
        a.connect("10.0.2.10", 81, seconds=0.3)
    assert a.pings("10.0.1.1")
    assert not a.pings("10.0.2.10")
    route["legs"].pop()
    host.apply(route, "router")
    with pytest.raises(OSError):
        a.connect("10.0.2.10", 80, seconds=0.3)


def test_as_root_a_guest_reaches_the_world_under_the_hosts_address_and_nobody_reaches_it(make_host, closing):
    host = make_host(0)
    outside = world(host, closing)
    spec = lab.network(host, rules=[lab.ingress()], a="10.0.0.10")
    host.apply(spec)
    route = lab.router((spec, "10.0.0.1/24"), external=True)
    host.apply(route, "router")
    assert host.client.capabilities()["way_out"] == ""
    a = closing(lab.Machine(host.guest(spec, "a"), gateway="10.0.0.1"))
    with outside.within():
        echo(closing(socket.create_server(("203.0.113.1", 80))))
    connection = a.connect("203.0.113.1", 80)
    connection.settimeout(lab.SECONDS)
    assert connection.recv(100) == b"192.0.2.2\n"
    # The connection lives through a restart of the process.
    host.stop()
    connection.sendall(b"with nobody there")
    assert connection.recv(100) == b"with nobody there"
    host.start()
    connection.sendall(b"still here")
    assert connection.recv(100) == b"still here"
    connection.close()
    # Nothing comes in: not to the guest, not to what else the host could lead to.
    with host.within():
        echo(closing(socket.create_server(("192.0.2.2", 8080))))
    outside.run("ip", "route", "add", "10.0.0.0/8", "via", "192.0.2.2")
    outside.run("ip", "route", "add", "169.254.0.0/16", "via", "192.0.2.2")
    with outside.within(), pytest.raises(OSError):
        socket.create_connection(("10.0.0.10", 22), timeout=0.3)
    # The host's own services are not for guests.
    with pytest.raises(OSError):
        a.connect("192.0.2.2", 8080, seconds=0.3)
    host.client.remove("router", route["id"])
    with pytest.raises(OSError):
        a.connect("203.0.113.1", 80, seconds=0.3)
    assert "pileus" not in host.run("ip", "route")


def test_a_port_of_the_host_leads_to_a_guest(host, closing):
    spec = lab.network(host, rules=[lab.ingress("tcp", 22, 22)], a="10.0.0.10")
    host.apply(spec)
    forward = lab.forward(spec, 2222, "10.0.0.10", 22)
    route = lab.router((spec, "10.0.0.1/24"), forwards=[forward])
    assert host.apply(route, "router") == {}
    a = closing(lab.Machine(host.guest(spec, "a"), gateway="10.0.0.1"))
    echo(closing(a.listen(22)))

    def connect() -> socket.socket:
        with host.within():
            return socket.create_connection(("127.0.0.1", 2222), timeout=lab.SECONDS)

    assert first_line(connect()) == "10.0.0.1"
    big = bytes(range(256)) * 4096
    with connect() as connection:
        assert connection.recv(100) == b"10.0.0.1\n"
        threading.Thread(
            target=lambda: (connection.sendall(big), connection.shutdown(socket.SHUT_WR)), daemon=True
        ).start()
        received = b""
        while part := connection.recv(1 << 16):
            received += part
    assert received == big
    host.stop()
    host.start()
    assert first_line(connect()) == "10.0.0.1"
    route["forwards"] = []
    host.apply(route, "router")
    with pytest.raises(ConnectionRefusedError):
        connect()


def test_datagrams_are_forwarded_too(host, closing):
    spec = lab.network(host, rules=[lab.ingress("udp", 53, 53)], a="10.0.0.10")
    host.apply(spec)
    forward = lab.forward(spec, 5353, "10.0.0.10", 53, "udp")
    host.apply(lab.router((spec, "10.0.0.1/24"), forwards=[forward]), "router")
    a = closing(lab.Machine(host.guest(spec, "a"), gateway="10.0.0.1"))
    with a.within():
        server = closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        server.bind(("", 53))
    with host.within():
        clients = [closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)]
    for number, client in enumerate(clients):
        client.settimeout(lab.SECONDS)
        client.sendto(b"question %d" % number, ("127.0.0.1", 5353))
        question, address = server.recvfrom(100)
        server.sendto(question.replace(b"question", b"answer"), address)
        assert client.recv(100) == b"answer %d" % number


def test_a_port_that_is_taken_is_told_and_the_rest_is_applied(host, closing):
    spec = lab.network(host, a="10.0.0.10")
    host.apply(spec)
    with host.within():
        taken = closing(socket.create_server(("127.0.0.1", 2222)))
    forward = lab.forward(spec, 2222, "10.0.0.10", 22)
    route = lab.router((spec, "10.0.0.1/24"), forwards=[forward])
    problems = host.apply(route, "router")
    assert problems == {forward["id"]: "cannot listen on 127.0.0.1 port 2222: Address already in use"}
    taken.close()
    assert host.apply(route, "router") == {}


def test_the_gateway_answers_on_its_own_mac_and_the_host_not_at_all(host):
    spec = lab.network(host, a="10.0.0.10")
    host.apply(spec)
    host.apply(lab.router((spec, "10.0.0.1/24")), "router")
    a = host.guest(spec, "a")
    a.send(frames.arp(a.mac, a.ip, "10.0.0.1"))
    assert a.receive(lambda frame: frame[12:14] == b"\x08\x06" and frame[28:32] == frames.ip("10.0.0.1"))
    a.send(frames.arp(a.mac, a.ip, "10.0.0.77"))
    began = time.monotonic()
    assert not a.receive(lambda frame: frame[12:14] == b"\x08\x06" and frame[28:32] == frames.ip("10.0.0.77"), 0.2)
    assert time.monotonic() - began < 1
