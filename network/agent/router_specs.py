"""What a host is told of routers, read and checked: all errors are ValueErrors, in words."""

import ipaddress
from dataclasses import dataclass
from typing import Any

from network.agent.specs import Address, Interface, Network, as_id, as_routes, as_within


@dataclass(frozen=True)
class Leg:
    """Where a router touches a network. `addresses` carry the length of their subnet."""

    network: str
    addresses: tuple[Interface, ...]


@dataclass(frozen=True)
class Forward:
    """What arrives at `listen` on this host goes to `to`, a guest's address in `network`. `elsewhere`: another host
    leads the address in, so nothing arrives here."""

    id: str
    protocol: str
    listen: tuple[Address, int]
    to: tuple[Address, int]
    network: str
    elsewhere: bool = False


@dataclass(frozen=True)
class FloatingIP:
    """What arrives for `address`, outside, goes to a guest's address, and what that sends leaves as `address`."""

    id: str
    address: Address
    to: Address


@dataclass(frozen=True)
class RouterSpec:
    id: str
    router: str
    snat: bool
    external: bool
    legs: tuple[Leg, ...]
    routes: tuple[tuple[Network, Address], ...]
    forwards: tuple[Forward, ...]
    floating_ips: tuple[FloatingIP, ...] = ()

    @classmethod
    def read(cls, spec: dict[str, Any]) -> "RouterSpec":
        """Raises ValueError, in words, for a spec that means nothing."""
        try:
            legs: dict[str, list[Interface]] = {}
            for leg in spec["legs"]:
                legs.setdefault(as_id(leg["network"]), []).append(ipaddress.ip_interface(leg["address"]))
            return cls(
                id=as_id(spec["id"]),
                router=as_id(spec["router"]["id"]),
                snat=bool(spec["router"].get("snat", True)),
                external=bool(spec.get("external")),
                legs=tuple(Leg(network, tuple(addresses)) for network, addresses in legs.items()),
                routes=as_routes(spec.get("routes", ())),
                forwards=tuple(_forward(forward) for forward in spec.get("forwards", ())),
                floating_ips=tuple(_floating_ip(each) for each in spec.get("floating_ips", ())),
            )
        except KeyError as error:
            raise ValueError(f"the spec lacks {error}") from error
        except (TypeError, AttributeError) as error:
            raise ValueError(f"the spec is malformed: {error}") from error


def _forward(value: dict[str, Any]) -> Forward:
    if value["protocol"] not in ("tcp", "udp"):
        raise ValueError(f"{value['protocol']!r} cannot be forwarded: tcp or udp")
    listen, to = value["listen"], value["to"]
    return Forward(
        id=as_id(value["id"]),
        protocol=value["protocol"],
        listen=(ipaddress.ip_address(listen["address"]), as_within(listen["port"], 1, 0xFFFF, "port")),
        to=(ipaddress.ip_address(to["address"]), as_within(to["port"], 1, 0xFFFF, "port")),
        network=as_id(to["network"]),
        elsewhere=bool(value.get("elsewhere")),
    )


def _floating_ip(value: dict[str, Any]) -> FloatingIP:
    return FloatingIP(as_id(value["id"]), ipaddress.ip_address(value["address"]), ipaddress.ip_address(value["to"]))
