"""Networks on a host, each figure beside what the kernel needs for the same without us, in the same run."""

import os
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from network.agent import messages
from network.agent.netlink import Netlink
from tests.benchmarks.measuring import line, percentile
from tests.benchmarks.test_machines import INSTANCES
from tests.clouds import wait_until
from tests.end_to_end.machines import POOL
from tests.network.agent import frames, lab
from tests.network.agent.conftest import make_host
from tests.network.agent.test_routers import world

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]
__all__ = ["make_host"]

SIZES = (10, 100, 1000)
ROUNDS = 200
ROUNDS_OF_CALLS, ROUNDS_OF_LAUNCHES = 30, 8


@pytest.fixture
def host(make_host) -> lab.Host:  # noqa: F811
    return make_host(0)


def address(number: int) -> str:
    return f"10.0.{number // 250}.{number % 250 + 1}"


def spec_of(host: lab.Host, ports: int) -> dict:
    names = {f"p{number}": address(number) for number in range(ports)}
    return lab.network(host, cidr="10.0.0.0/16", rules=[lab.ingress()], **names)


def timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


def round_trips(a: lab.Guest, b: lab.Guest) -> Iterator[float]:
    """Milliseconds of a ping from tap to tap and back, both ends ours."""
    for number in range(ROUNDS):
        began = time.perf_counter()
        a.send(frames.ping(a.mac, b.mac, a.ip, b.ip, number))
        assert b.receive(lambda heard: heard[12:14] == b"\x08\x00" and heard[23] == 1)
        b.send(frames.ping(b.mac, a.mac, b.ip, a.ip, number, reply=True))
        assert a.receive(lambda heard: heard[12:14] == b"\x08\x00" and heard[23] == 1)
        yield (time.perf_counter() - began) * 1000


def frames_a_second(a: lab.Guest, b: lab.Guest) -> float:
    """How many frames of 1400 bytes pass from tap to tap, sent in bunches that the taps' queues hold."""
    frame, bunch, passed, began = frames.udp(a.mac, b.mac, a.ip, b.ip, (1, 2), bytes(1358)), 200, 0, time.perf_counter()
    while time.perf_counter() - began < 1:
        for _ in range(bunch):
            a.send(frame)
        for _ in range(bunch):
            assert b.receive(lambda heard: len(heard) == len(frame))
            passed += 1
    return passed / (time.perf_counter() - began)


def raw_bridge(stack: ExitStack) -> tuple[lab.Guest, lab.Guest]:
    """Two taps on a bridge without any rule."""
    space = stack.enter_context(closing(lab.Space()))
    guests = []
    with space.within(), Netlink() as kernel:
        kernel.send(messages.add_bridge("raw", "02:00:00:00:00:01", 1500))
        bridge = kernel.links()["raw"].index
        kernel.send(messages.change_link(bridge, up=True))
        for number in (1, 2):
            port = {"id": "", "mac": f"52:54:00:00:00:0{number}", "addresses": [{"address": f"10.0.0.{number}"}]}
            tap = lab.open_tap(f"tap{number}")
            stack.callback(os.close, tap)
            link = kernel.links()[f"tap{number}"].index
            kernel.send(messages.change_link(link, up=True, master=bridge))
            guests.append(lab.Guest(tap, port))
    a, b = guests
    lab.wait_for(lambda: a.send(frames.ping(a.mac, b.mac, a.ip, b.ip)) or b.receive(lambda _: True, 0.05))
    return a, b


def test_the_path_of_a_packet_does_not_grow_with_the_ports(host):
    with ExitStack() as stack:
        a, b = raw_bridge(stack)
        raw_ms, raw_rate = statistics.median(round_trips(a, b)), frames_a_second(a, b)
    line("a bridge without rules", round_trip_ms=raw_ms, frames_per_second=raw_rate)
    for size in SIZES:
        spec = spec_of(host, size)
        host.apply(spec)
        with ExitStack() as stack:
            a, b = (stack.enter_context(closing(host.guest(spec, name))) for name in ("p0", f"p{size - 1}"))
            ms, rate = statistics.median(round_trips(a, b)), frames_a_second(a, b)
        line(
            f"a network of {size} ports", target="flat", round_trip_ms=ms, frames_per_second=rate,
            of_the_raw_rate=rate / raw_rate,
        )  # fmt: skip
        host.client.remove("network", spec["id"])


def test_what_the_agent_does_for_a_port_and_for_a_rule(host):
    for size in SIZES:
        spec = spec_of(host, size)
        first = timed(lambda: host.apply(spec))  # noqa: B023
        plugged = [timed(lambda: os.close(host.client.plug(port["id"]))) for port in spec["ports"][:20]]  # noqa: B023
        group = next(iter(spec["groups"].values()))
        changes = []
        for number in range(20):
            group["rules"].append(lab.ingress("tcp", 1000 + number, 1000 + number, remote={"cidr": "192.0.2.0/24"}))
            changes.append(timed(lambda: host.apply(spec)))  # noqa: B023
        joined = []
        for number in range(10):
            lab.add_port(spec, f"new{number}", address(size + number), groups=list(spec["groups"]))
            joined.append(timed(lambda: host.apply(spec)))  # noqa: B023
        line(
            f"agent's work with {size} ports", target="plug ≤ 5 ms, a rule ≤ 5 ms", network_ms=first,
            plug_ms=statistics.median(plugged), rule_ms=statistics.median(changes),
            rule_p95_ms=percentile(changes, 0.95), one_more_port_ms=statistics.median(joined),
        )  # fmt: skip
        host.client.remove("network", spec["id"])
    with closing(lab.Space()) as space, space.within(), Netlink() as kernel:
        made = [timed(lambda: os.close(lab.open_tap(f"tap{number}"))) for number in range(20)]  # noqa: B023
        asked = [timed(kernel.links) for _ in range(20)]
    line("the kernel alone", a_tap_ms=statistics.median(made), a_look_at_links_ms=statistics.median(asked))


def test_entries_for_ports_of_other_hosts(host):
    """100 000 of them: MAC to peer, MAC to device, address to MAC."""
    host.run("ip", "addr", "add", "192.0.2.2/24", "dev", "lo")
    host.run("ip", "route", "add", "default", "dev", "lo")
    count = 100_000
    spec = spec_of(host, 1)
    there = lab.new_id()
    spec["peers"] = [{"host": host.id, "vtep": "192.0.2.2"}, {"host": there, "vtep": "192.0.2.3"}]
    host.apply(spec)
    group = next(iter(spec["groups"]))
    for number in range(count):
        port = lab.add_port(spec, "", f"10.{1 + number // 65536}.{number // 256 % 256}.{number % 256}", [], host=there)
        port["mac"] = f"06:00:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
    spec["groups"][group]["members"] = []
    ms = timed(lambda: host.apply(spec))
    line(f"{count:,} ports of other hosts", target="40 µs each", seconds=ms / 1000, us_each=ms * 1000 / count)


def test_a_floating_ip_leads_elsewhere(make_host):  # noqa: F811
    """From the order on the host to a connection from outside that is accepted."""
    host = make_host(0, PILEUS_POOLS="198.51.100.0/24=routed")
    spec = lab.network(host, rules=[lab.ingress("tcp", 80, 80)], a="10.0.0.10", b="10.0.0.11")
    host.apply(spec)
    route = lab.router((spec, "10.0.0.1/24"), external=True)
    host.apply(route, "router")
    with ExitStack() as stack:
        outside = world(host, lambda thing: stack.enter_context(closing(thing)))
        outside.run("ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.2")
        machines = [
            stack.enter_context(closing(lab.Machine(host.guest(spec, name), gateway="10.0.0.1"))) for name in "ab"
        ]
        servers = [stack.enter_context(machine.listen(80)) for machine in machines]
        taken = []
        for number in range(20):
            route["floating_ips"] = [lab.floating_ip("198.51.100.7", f"10.0.0.{10 + number % 2}")]
            began = time.perf_counter()
            host.apply(route, "router")
            with outside.within(), socket.create_connection(("198.51.100.7", 80), timeout=2):
                servers[number % 2].accept()[0].close()
            taken.append((time.perf_counter() - began) * 1000)
    line("a floating IP moves", target="≤ 150 ms", p50_ms=statistics.median(taken), p95_ms=percentile(taken, 0.95))


def is_let_in(address: str, port: int) -> bool:
    """Whether a first packet reaches the guest: nothing listens there, and it says so."""
    with socket.socket() as probe:
        probe.settimeout(0.02)
        try:
            probe.connect((address, port))
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            return False
    return True


@pytest.mark.vm
def test_from_a_call_of_the_api_to_a_packet_that_passes(machine):
    with machine.api("admin") as admin, machine.api() as api:
        admin.post("/address-pools", json={"name": "bench", "cidr": POOL})
        made = api.post("/projects/demo/floating-ips", json={"pool": "bench", "instance": "first"})
        address = made.json()["address"]
        api.post("/projects/demo/security-groups/default/rules", json=rule(700))
        wait_until(lambda: is_let_in(address, 700), 60, 0.1, what="the floating IP leads to the guest")
        passed, taken, calls = [], [], []
        for number in range(ROUNDS_OF_CALLS):
            passed.append(timed(lambda: is_let_in(address, 700)))
            began = time.perf_counter()
            answer = api.post("/projects/demo/security-groups/default/rules", json=rule(701 + number))
            calls.append((time.perf_counter() - began) * 1000)
            assert answer.status_code == 201, answer.text
            wait_until(lambda number=number: is_let_in(address, 701 + number), 30, 0.001)
            taken.append((time.perf_counter() - began) * 1000)
        api.delete(f"/projects/demo/floating-ips/{made.json()['id']}")
    line("a packet to the guest and its answer", p50_ms=statistics.median(passed))
    line(
        "API call to packet passes", target="≤ 150 ms p50", p50_ms=statistics.median(taken),
        p95_ms=percentile(taken, 0.95), call_alone_p50_ms=statistics.median(calls),
    )  # fmt: skip


def rule(port: int) -> dict:
    return {"direction": "ingress", "family": 4, "protocol": "tcp", "port_min": port, "remote_cidr": "0.0.0.0/0"}


def until_running(api, name: str, **wishes: object) -> float:
    """Seconds from POST to a machine that runs. How long its guest boots is another matter."""
    began = time.perf_counter()
    answer = api.post(INSTANCES, json={"name": name, "flavor": "tiny", "image": "tiny-linux", **wishes})
    assert answer.status_code == 202, answer.text
    wait_until(lambda: api.get(f"{INSTANCES}/{name}").json()["status"] == "running", 120, 0.01)
    taken = time.perf_counter() - began
    api.delete(f"{INSTANCES}/{name}?purge=true")
    wait_until(lambda: api.get(f"{INSTANCES}/{name}").status_code == 404, 60)
    return taken


@pytest.mark.vm
def test_what_a_network_adds_to_a_launch(machine):
    """By turns on the project's network, where others are already, and on none."""
    with machine.api() as api:
        pairs = [
            (until_running(api, f"net{number}"), until_running(api, f"bare{number}", networks=[]))
            for number in range(ROUNDS_OF_LAUNCHES)
        ]
    on_a_network, on_none = (statistics.median(found) for found in zip(*pairs, strict=True))
    added = statistics.median(one - other for one, other in pairs)
    line("what a network adds to a launch", target="≤ 0.1 s", p50_s=added, with_s=on_a_network, without_s=on_none)
