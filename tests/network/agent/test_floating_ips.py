"""Floating IPs: addresses outside that lead to guests, and single ports of such addresses, told by packets."""

import contextlib
import socket
import time

import pytest

from network.agent.pools import Pools
from tests.network.agent import lab
from tests.network.agent.test_routers import closing, echo, first_line, world  # noqa: F401

POOL, ROUTED = "192.0.2.64/26", "198.51.100.0/28"
DOOR, OTHER, FAR = "192.0.2.70", "192.0.2.71", "198.51.100.3"
MAX_SECONDS_OF_A_CHANGE = 0.15


@pytest.fixture
def host(make_host):
    return make_host(0, PILEUS_POOLS=f"{POOL}=uplink {ROUTED}=routed")


@pytest.fixture
def outside(host, closing):  # noqa: F811
    found = world(host, closing)
    found.run("ip", "route", "add", ROUTED, "via", "192.0.2.2")
    return found


def guests(host, closing, spec, *names: str) -> list[lab.Machine]:  # noqa: F811
    found = [closing(lab.Machine(host.guest(spec, name), gateway="10.0.0.1")) for name in names]
    for machine in found:
        echo(closing(machine.listen(80)))
    return found


def ask(space: lab.Space, address: str, port: int = 80, seconds: float = 1.0) -> socket.socket:
    with space.within():
        return socket.create_connection((address, port), timeout=seconds)


def reaches(space: lab.Space, address: str, port: int = 80) -> str:
    """As whom somebody is seen who connects; "" when nobody answers."""
    with contextlib.suppress(OSError):
        return first_line(ask(space, address, port, 0.3))
    return ""


def is_alive(connection: socket.socket) -> bool:
    connection.settimeout(0.3)
    with contextlib.suppress(OSError):
        connection.sendall(b"there?")
        heard = b""
        while part := connection.recv(100):
            heard += part
            if b"there?" in heard:
                return True
    return False


def test_a_guest_is_reached_by_its_floating_ip_and_leaves_under_it(host, outside, closing):  # noqa: F811
    spec = lab.network(host, rules=[lab.ingress("tcp", 80, 80)], a="10.0.0.10", b="10.0.0.11")
    host.apply(spec)
    route = lab.router((spec, "10.0.0.1/24"), external=True)
    route["floating_ips"] = [lab.floating_ip(DOOR, "10.0.0.10"), lab.floating_ip(FAR, "10.0.0.11")]
    assert host.apply(route, "router") == {}
    a, b = guests(host, closing, spec, "a", "b")
    assert reaches(outside, DOOR) == "192.0.2.1"
    assert reaches(outside, FAR) == "192.0.2.1"
    assert reaches(host, DOOR) == "192.0.2.2"
    # Security groups are asked: neither other ports nor pings are open.
    echo(closing(a.listen(81)))
    assert not reaches(outside, DOOR, 81)
    with outside.within():
        echo(closing(socket.create_server(("203.0.113.1", 80))))
    assert reaches(a, "203.0.113.1") == DOOR
    assert reaches(b, "203.0.113.1") == FAR
    # What leads nowhere is not answered for, and not sent in circles.
    assert not reaches(outside, OTHER)
    assert not reaches(outside, "198.51.100.4")
    neighbours = outside.run("ip", "neigh", "show", "dev", "up")
    assert f"{DOOR} lladdr" in neighbours
    assert f"{OTHER} lladdr" not in neighbours


def test_who_else_has_a_floating_ip_is_found(host, outside, closing):  # noqa: F811
    spec = lab.network(host, rules=[lab.ingress("tcp", 80, 80)], a="10.0.0.10", b="10.0.0.11")
    host.apply(spec)
    route = lab.router((spec, "10.0.0.1/24"), external=True)
    route["floating_ips"] = [lab.floating_ip(DOOR, "10.0.0.10"), lab.floating_ip(FAR, "10.0.0.11")]
    host.apply(route, "router")
    guests(host, closing, spec, "a")

    def look(address: str) -> tuple[bool, str]:
        seen = host.client.probe(spec["ports"][0]["id"], "10.0.0.10", "tcp", 80, outside=address)
        return seen["has_rival"], seen["answer"]

    lab.wait_for(lambda: look(DOOR) == (False, "open"), 30)
    outside.run("ip", "addr", "add", f"{DOOR}/32", "dev", "up")
    lab.wait_for(lambda: look(DOOR) == (True, "open"), 30)
    lab.wait_for(lambda: look(FAR) == (False, "open"), 30)  # which is on no segment


def test_moving_a_floating_ip_cuts_what_it_led_to_at_once(host, outside, closing):  # noqa: F811
    spec = lab.network(host, rules=[lab.ingress("tcp", 80, 80)], a="10.0.0.10", b="10.0.0.11")
    host.apply(spec)
    route = lab.router((spec, "10.0.0.1/24"), external=True)
    host.apply(route, "router")
    a, b = guests(host, closing, spec, "a", "b")
    names = {"10.0.0.10": a, "10.0.0.11": b}
    with outside.within():
        echo(closing(socket.create_server(("203.0.113.1", 80))))

    def lead(to: str) -> None:
        route["floating_ips"] = [lab.floating_ip(DOOR, to)] if to else []
        began = time.monotonic()
        assert host.apply(route, "router") == {}
        assert time.monotonic() - began < MAX_SECONDS_OF_A_CHANGE

    before = closing(ask(a, "203.0.113.1"))
    lead("10.0.0.10")
    assert is_alive(before)  # it left under the host's address, and goes on to
    inward, outward = closing(ask(outside, DOOR)), closing(ask(a, "203.0.113.1"))
    assert is_alive(inward)
    assert is_alive(outward)
    lead("10.0.0.11")
    inward.settimeout(lab.SECONDS)
    inward.sendall(b"who is there?")
    with pytest.raises(ConnectionResetError):  # it is told, and does not wait for ever
        inward.recv(100)
    assert not is_alive(outward)
    assert reaches(names["10.0.0.11"], "203.0.113.1") == DOOR
    assert reaches(a, "203.0.113.1") == "192.0.2.2"
    inward = closing(ask(outside, DOOR))
    assert is_alive(inward)
    lead("")
    assert not is_alive(inward)
    assert not reaches(outside, DOOR)
    assert DOOR not in host.run("ip", "route")
    assert DOOR not in host.run("ip", "neigh", "show", "proxy")


def test_guests_reach_each_other_by_floating_ips(host, outside, closing):  # noqa: F811
    """In one network, in two of one router, and across projects; whoever has an address outside is seen as that."""
    one = lab.network(host, rules=[lab.ingress("tcp", 80, 80)], a="10.0.0.10", b="10.0.0.11", c="10.0.0.12")
    other = lab.network(host, rules=[lab.ingress("tcp", 80, 80)], d="10.0.0.10", e="10.0.0.13")
    for spec in (one, other):
        host.apply(spec)
    first = lab.router((one, "10.0.0.1/24"), external=True)
    first["floating_ips"] = [lab.floating_ip(DOOR, "10.0.0.10"), lab.floating_ip(OTHER, "10.0.0.11")]
    second = lab.router((other, "10.0.0.1/24"), external=True)
    second["floating_ips"] = [lab.floating_ip(FAR, "10.0.0.10")]
    for route in (first, second):
        assert host.apply(route, "router") == {}
    a, _, c = guests(host, closing, one, "a", "b", "c")
    d, e = guests(host, closing, other, "d", "e")
    assert reaches(a, OTHER) == DOOR
    assert reaches(a, DOOR) == DOOR
    assert reaches(c, OTHER) == "10.0.0.1"
    assert reaches(a, FAR) == DOOR
    assert reaches(d, DOOR) == FAR
    assert reaches(e, DOOR) == "192.0.2.2"
    assert reaches(c, FAR) == "192.0.2.2"
    # Nothing but floating IPs leads from one router to another.
    own = [line.split()[0] for line in host.run("ip", "route").splitlines() if line.startswith("169.254.")]
    assert len(own) == 2
    assert not any(reaches(a, address) for address in own)


def test_ports_of_a_floating_ip_lead_to_several_guests(host, outside, closing):  # noqa: F811
    spec = lab.network(
        host, rules=[lab.ingress("tcp", 80, 80), lab.ingress("udp", 53, 53)], a="10.0.0.10", b="10.0.0.11"
    )
    host.apply(spec)
    forwards = [
        lab.forward(spec, 8001, "10.0.0.10", 80, at=DOOR),
        lab.forward(spec, 8002, "10.0.0.11", 80, at=DOOR),
        lab.forward(spec, 53, "10.0.0.11", 53, "udp", at=DOOR),
    ]
    route = lab.router((spec, "10.0.0.1/24"), external=True, forwards=forwards)
    assert host.apply(route, "router") == {}
    a, b = guests(host, closing, spec, "a", "b")
    first, second = closing(ask(outside, DOOR, 8001)), closing(ask(outside, DOOR, 8002))
    assert is_alive(first)
    assert is_alive(second)
    assert first_line(ask(a, DOOR, 8002)) == "10.0.0.1"
    assert not reaches(outside, DOOR)
    with b.within():
        server = closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        server.bind(("", 53))
    with outside.within():
        client = closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client.settimeout(lab.SECONDS)
    client.sendto(b"question", (DOOR, 53))
    server.sendto(b"answer", server.recvfrom(100)[1])
    assert client.recvfrom(100) == (b"answer", (DOOR, 53))
    route["forwards"] = forwards[1:]
    host.apply(route, "router")
    assert not is_alive(first)
    assert is_alive(second)


def test_ports_that_another_host_leads_in_are_told_and_left_alone(host, outside):
    spec = lab.network(host, a="10.0.0.10")
    host.apply(spec)
    forward = lab.forward(spec, 8001, "10.0.0.10", 80, at=DOOR) | {"elsewhere": True}
    problems = host.apply(lab.router((spec, "10.0.0.1/24"), external=True, forwards=[forward]), "router")
    assert "another host" in problems[forward["id"]]
    assert DOOR not in host.run("ip", "neigh", "show", "proxy")


def test_connections_by_a_floating_ip_survive_a_restart(host, outside, closing):  # noqa: F811
    spec = lab.network(host, rules=[lab.ingress("tcp", 80, 80)], a="10.0.0.10")
    host.apply(spec)
    route = lab.router((spec, "10.0.0.1/24"), external=True)
    route["floating_ips"] = [lab.floating_ip(DOOR, "10.0.0.10")]
    host.apply(route, "router")
    guests(host, closing, spec, "a")
    connection = closing(ask(outside, DOOR))
    host.stop()
    assert is_alive(connection)
    host.start()
    assert is_alive(connection)
    assert host.apply(route, "router") == {}
    assert is_alive(connection)
    host.client.remove("router", route["id"])
    host.client.remove("network", spec["id"])
    assert DOOR not in host.run("ip", "neigh", "show", "proxy")
    assert "pileus" not in host.run("ip", "route")


def test_neighbours_learn_at_once_that_an_address_has_come_from_another_host(make_host, closing):  # noqa: F811
    """Two hosts on one segment: whoever remembers the first one's MAC is told of the second."""
    segment = closing(lab.Space())
    segment.run("ip", "link", "add", "name", "br0", "type", "bridge")
    segment.run("ip", "link", "set", "br0", "up")
    segment.run("ip", "addr", "add", "192.0.2.1/24", "dev", "br0")
    routes, machines = [], []
    for number in (2, 3):
        host = make_host(0, PILEUS_POOLS=f"{POOL}=uplink")
        lab.wire(host, "uplink", segment, f"up{number}")
        segment.run("ip", "link", "set", f"up{number}", "master", "br0")
        host.run("ip", "addr", "add", f"192.0.2.{number}/24", "dev", "uplink")
        host.run("ip", "route", "add", "default", "via", "192.0.2.1")
        spec = lab.network(host, rules=[lab.ingress("tcp", 80, 80)], a="10.0.0.10")
        host.apply(spec)
        route = lab.router((spec, "10.0.0.1/24"), external=True)
        host.apply(route, "router")
        machines += guests(host, closing, spec, "a")
        routes.append((host, route))
    (first, here), (second, there) = routes
    here["floating_ips"] = [lab.floating_ip(DOOR, "10.0.0.10")]
    first.apply(here, "router")
    assert reaches(segment, DOOR) == "192.0.2.1"
    here["floating_ips"], there["floating_ips"] = [], here["floating_ips"]
    second.apply(there, "router")
    first.apply(here, "router")
    assert reaches(segment, DOOR) == "192.0.2.1"
    assert reaches(machines[1], "192.0.2.1", 80) == ""  # nobody listens; it is about the address below
    with segment.within():
        echo(closing(socket.create_server(("192.0.2.1", 80))))
    assert reaches(machines[1], "192.0.2.1") == DOOR


def test_where_no_range_leads_here_the_status_says_so(make_host):
    host = make_host(0, PILEUS_POOLS=f"{POOL}=eth7")
    spec = lab.network(host, a="10.0.0.10")
    host.apply(spec)
    absent, elsewhere = lab.floating_ip(DOOR, "10.0.0.10"), lab.floating_ip("203.0.113.9", "10.0.0.11")
    route = lab.router((spec, "10.0.0.1/24"), external=True) | {"floating_ips": [absent, elsewhere]}
    problems = host.apply(route, "router")
    assert problems.keys() == {absent["id"], elsewhere["id"]}
    assert "eth7" in problems[absent["id"]]
    assert "PILEUS_POOLS" in problems[elsewhere["id"]]


def test_an_ordinary_users_host_leads_ports_of_loopback_addresses_and_says_what_it_cannot(make_host, closing):  # noqa: F811
    host = make_host(lab.NOBODY)
    spec = lab.network(host, rules=[lab.ingress("tcp", 80, 80)], a="10.0.0.10")
    host.apply(spec)
    whole = lab.floating_ip("127.0.2.5", "10.0.0.10")
    lost = lab.forward(spec, 8001, "10.0.0.10", 80, at=DOOR)
    forwards = [lab.forward(spec, 8001, "10.0.0.10", 80, at="127.0.2.6"), lost]
    route = lab.router((spec, "10.0.0.1/24"), external=True, forwards=forwards) | {"floating_ips": [whole]}
    problems = host.apply(route, "router")
    assert problems.keys() == {whole["id"], lost["id"]}
    assert "port forwards" in problems[whole["id"]]
    guests(host, closing, spec, "a")
    assert reaches(host, "127.0.2.6", 8001) == "10.0.0.1"
    assert not reaches(host, "127.0.0.1", 8001)


@pytest.mark.parametrize(
    "said", ["203.0.113.0/24", "203.0.113.1/24=eth0", "127.0.5.0/24=routed", "2001:db8::/64=eth0", "nonsense"]
)
def test_a_mistake_in_the_ranges_is_told_in_words(said):
    found = Pools.said(said, is_in_hosts_network=True)
    assert said in found.problem
    assert not found.ranges
