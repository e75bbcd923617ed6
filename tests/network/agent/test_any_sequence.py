"""Any sequence of changes ends where the last spec says: in what the kernel has, and in what guests hear."""

import contextlib
import ipaddress
import signal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from network.agent import nft, rules
from network.agent.process import anchor_record
from network.agent.specs import NetworkSpec, digest
from tests.network.agent import frames, lab

GUESTS = 3
PORTS = (53, 80)
LIMITS = (None, 100)  # Mbit/s, which no test here reaches

guest = st.integers(0, GUESTS - 1)
rule = st.tuples(st.sampled_from(PORTS), st.sampled_from(["everybody", "members", "10.0.0.10/32"]))
change = st.one_of(
    st.tuples(st.just("come_or_go"), guest),
    st.tuples(st.just("plug_or_unplug"), guest),
    st.tuples(st.just("join_or_leave"), guest),
    st.tuples(st.just("limit"), guest, st.sampled_from(LIMITS)),
    st.tuples(st.just("open_or_close"), rule),
    st.tuples(st.just("restart"), st.sampled_from([signal.SIGTERM, signal.SIGKILL])),
)


class World:
    """A network on a host, and what ought to be true of it. Its guests are in a group that is open to nobody at first,
    and in and out of another, which rules may name."""

    def __init__(self, host: lab.Host) -> None:
        self.host = host
        self.spec = lab.network(host)
        (self.group,) = self.spec["groups"]
        self.club = lab.new_id()
        self.spec["groups"][self.club] = {"rules": [], "members": []}
        self.known: dict[int, dict[str, Any]] = {}
        self.guests: dict[int, lab.Guest] = {}
        self.open: set[tuple[int, str]] = set()

    def apply(self) -> None:
        ports = list(self.known.values())
        self.spec["ports"] = ports
        for id, group in self.spec["groups"].items():
            group["members"] = [port["addresses"][0]["address"] for port in ports if id in port["security_groups"]]
        outward = [one for one in self.spec["groups"][self.group]["rules"] if one["direction"] == "egress"]
        inward = [lab.ingress("udp", port, port, remote=self.remote(who)) for port, who in sorted(self.open)]
        self.spec["groups"][self.group]["rules"] = outward + inward
        assert self.host.apply(self.spec) == {}

    def remote(self, who: str) -> dict[str, str] | None:
        return {"everybody": None, "members": {"group": self.club}}.get(who, {"cidr": who})

    def come_or_go(self, number: int) -> None:
        if self.known.pop(number, None):
            if number in self.guests:
                self.guests.pop(number).close()
        else:
            self.known[number] = lab.add_port(self.spec, f"g{number}", f"10.0.0.{10 + number}", [self.group])
        self.apply()

    def plug_or_unplug(self, number: int) -> None:
        if number in self.guests:
            self.guests.pop(number).close()
            self.host.client.unplug(self.known[number]["id"])
        elif number in self.known:
            self.guests[number] = self.host.guest(self.spec, f"g{number}")

    def join_or_leave(self, number: int) -> None:
        if port := self.known.get(number):
            port["security_groups"] = [self.group] if self.club in port["security_groups"] else [self.group, self.club]
            self.apply()

    def limit(self, number: int, mbps: int | None) -> None:
        if port := self.known.get(number):
            port["mbps"] = mbps
            self.apply()

    def open_or_close(self, opened: tuple[int, str]) -> None:
        self.open ^= {opened}
        self.apply()

    def restart(self, number: int) -> None:
        self.host.stop(number)
        self.host.start()

    def is_open(self, sender: int, port: int) -> bool:
        address = ipaddress.ip_address(f"10.0.0.{10 + sender}")
        fits = {"everybody": True, "members": self.club in self.known[sender]["security_groups"]}
        return any(fits.get(who, str(address) in who) for opened, who in self.open if opened == port)

    def check(self) -> None:
        for sender, a in self.guests.items():
            for receiver, b in self.guests.items():
                for number, port in enumerate(PORTS):
                    if sender != receiver:
                        frame = frames.udp(a.mac, b.mac, a.ip, b.ip, (next(lab._numbers) % 60000 + 1, port))
                        assert b.hears(a, frame) == self.is_open(sender, port), (sender, receiver, port, number)
        inventory = self.host.client.inventory()
        assert inventory["plugged"] == sorted(guest.id for guest in self.guests.values())
        assert [each["hash"] for each in inventory["resources"]] == [digest(self.spec)]
        read = NetworkSpec.read(self.spec)
        tracking = self.host.client.capabilities()["tracking"]
        anchor = anchor_record(self.host.paths).read_text().split()[0]
        inside = f"/proc/{anchor}/root{self.host.runtime}/network/namespaces/network-{read.id}/net"
        with lab.inside(inside):
            for table in rules.tables(read, tracking, {}, rules.of_ports(read)):
                assert nft.difference(nft.read(table), table).commands == ()

    def close(self) -> None:
        for one in self.guests.values():
            with contextlib.suppress(OSError):
                one.close()
        self.host.client.remove("network", self.spec["id"])


@pytest.fixture(scope="module")
def any_host(make_shared_host) -> lab.Host:
    return make_shared_host(0)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(change, min_size=4, max_size=10))
def test_any_sequence_of_changes_ends_where_the_last_spec_says(any_host, changes):
    world = World(any_host)
    with contextlib.closing(world):
        for number in range(2):  # otherwise most sequences are about nothing
            world.come_or_go(number)
            world.plug_or_unplug(number)
        for name, *arguments in changes:
            getattr(world, name)(*arguments)
        world.check()
