"""Which addresses outside lead to this host: what an admin says in $PILEUS_POOLS, for example

    PILEUS_POOLS="203.0.113.0/26=eth1 198.51.100.0/28=routed"

The first range lies on the segment of eth1, where this host answers for those of its addresses that lead to guests
here. The second one is routed to this host by somebody else. An ordinary user's host has no such ranges.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from network.agent.router_specs import Forward, RouterSpec
from network.agent.specs import Address

ROUTED = "routed"
ELSEWHERE = "other ports of its floating IP lead to a machine on another host: all have to lead to one host"
Network = ipaddress.IPv4Network


@dataclass(frozen=True)
class Pools:
    """`ranges`: each with the device on whose segment it lies, or ROUTED. `problem`: what is wrong with them.
    `has_uplinks`: this host may lead in whole addresses at all."""

    ranges: Mapping[Network, str] = field(default_factory=dict)
    problem: str = ""
    has_uplinks: bool = True

    @classmethod
    def said(cls, text: str, *, is_in_hosts_network: bool) -> "Pools":
        """What the variable says. A mistake in it is told, and no range is led in."""
        if not is_in_hosts_network:
            problem = "PILEUS_POOLS is of no use here: only root leads ranges of addresses to machines"
            return cls(problem=problem if text.strip() else "", has_uplinks=False)
        ranges: dict[Network, str] = {}
        for part in text.split():
            written, _, device = part.partition("=")
            try:
                network = ipaddress.IPv4Network(written)
            except ValueError as error:
                return cls(problem=f"PILEUS_POOLS: {part!r}: {error}")
            if network.is_loopback:
                return cls(problem=f"PILEUS_POOLS: {part!r}: addresses of the loopback lead to this host alone")
            if not device:
                return cls(problem=f"PILEUS_POOLS: {part!r} is not RANGE=DEVICE or RANGE=routed")
            ranges[network] = device
        return cls(ranges)

    def device(self, address: Address) -> str | None:
        """Where an address comes in: a device, or ROUTED; None: not at this host."""
        return next((device for network, device in self.ranges.items() if address in network), None)

    @property
    def devices(self) -> set[str]:
        """Those on whose segments ranges lie."""
        return set(self.ranges.values()) - {ROUTED}

    def describe(self) -> dict[str, Any]:
        """For the host's capabilities."""
        return {"pools": [str(network) for network in self.ranges], "pools_problem": self.problem}


@dataclass(frozen=True)
class WaysIn:
    """What a router does with packets from outside. `ports`: (address, protocol, port) to (guest's address, port)."""

    addresses: Mapping[Address, Address] = field(default_factory=dict)
    ports: Mapping[tuple[Address, str, int], tuple[Address, int]] = field(default_factory=dict)

    @property
    def outside(self) -> set[Address]:
        """All addresses that lead in."""
        return {*self.addresses, *(address for address, _, _ in self.ports)}


def ways_in(spec: RouterSpec, pools: Pools) -> tuple[WaysIn, dict[str, str]]:
    """What a router leads in on this host by addresses of its own; which floating IPs and forwards it cannot, and why.

    Forwards from other addresses are sockets of the network process: see `listened`.
    """
    led, problems = {}, {}
    for floating in spec.floating_ips:
        if pools.device(floating.address):
            led[floating.address] = floating.to
        else:
            problems[floating.id] = _why_not(floating.address, pools)
    problems |= {each.id: ELSEWHERE for each in spec.forwards if each.elsewhere}
    ports = {
        (each.listen[0], each.protocol, each.listen[1]): each.to
        for each in spec.forwards
        if pools.device(each.listen[0]) and not each.elsewhere
    }
    return WaysIn(led, ports), problems


def listened(spec: RouterSpec, pools: Pools) -> list[Forward]:
    """The forwards that are sockets on this host's own addresses."""
    return [each for each in spec.forwards if not pools.device(each.listen[0]) and not each.elsewhere]


def _why_not(address: Address, pools: Pools) -> str:
    if not pools.has_uplinks:
        return "the machine's host leads in single ports only, as it is run by an ordinary user: make port forwards"
    if address.version != 4:
        return "hosts lead IPv4 addresses to machines, no others"
    return (
        pools.problem
        or f"{address} does not arrive at the machine's host: an admin says in PILEUS_POOLS there what does"
    )
