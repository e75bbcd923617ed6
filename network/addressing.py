"""Addresses and ranges: how they are written, what is absurd, what fits together. Nothing here knows the database.

`fault_of_…` gives words for what is wrong, or ""; `faults_of_…` gives every fault, with its place in a body.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import pairwise
from typing import Any, TypedDict

from cloud.problems import Fault

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
PREFIXES = {4: range(8, 31), 6: range(32, 127)}  # what a subnet may have
METADATA = ip_address("fd00:ec2::254")
MAX_RANGES, MAX_DNS, MAX_ROUTES = 20, 5, 20
CIDR_FORM = re.compile(r"[0-9a-fA-F.:]{2,43}/[0-9]{1,3}")
ADDRESS_FORM = re.compile(r"[0-9a-fA-F.:]{2,43}")


class Range(TypedDict):
    first: str
    last: str


class Route(TypedDict):
    destination: str
    next_hop: str


def read_network(text: str) -> Network:
    """A network in CIDR notation. Raises ValueError with words for people."""
    if not CIDR_FORM.fullmatch(text):
        raise ValueError("Write it as address/prefix length, like 10.0.0.0/24.")
    address, _, prefix = text.partition("/")
    host = read_address(address)
    if int(prefix) > host.max_prefixlen:
        raise ValueError(f"The prefix of an IPv{host.version} network has at most {host.max_prefixlen} bits.")
    network = ip_network(f"{host}/{int(prefix)}", strict=False)
    if network.network_address != host:
        raise ValueError(f"{text} has host bits set. The network is {network}.")
    return network


def read_address(text: str) -> Address:
    """An address. Raises ValueError with words for people."""
    if not ADDRESS_FORM.fullmatch(text):
        raise ValueError("Write it as an IPv4 or IPv6 address, like 10.0.0.5.")
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(f"{text} is not an IPv4 or IPv6 address.") from None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        raise ValueError(f"{text} is an IPv4 address inside of an IPv6 one. Write {address.ipv4_mapped}.")
    return address


def fault_of_subnet(network: Network) -> str:
    """Why no subnet can have this range; "" when it can."""
    lengths = PREFIXES[network.version]
    if network.prefixlen not in lengths:
        return f"An IPv{network.version} subnet has a prefix of {lengths[0]} to {lengths[-1]} bits."
    for wrong, words in (
        (network.is_multicast, "is multicast"),
        (network.is_loopback, "is loopback"),
        (network.is_link_local, "is link-local"),
        (network.is_unspecified or int(network.network_address) == 0, "means no address"),
        (isinstance(network, IPv4Network) and network.is_reserved, "is reserved"),
        (METADATA in network, f"holds {METADATA}, where machines read their metadata"),
    ):
        if wrong:
            return f"{network} {words}. Take a private range, like 10.0.0.0/24 or fd00:1::/64."
    return ""


def usable(network: Network) -> tuple[Address, Address]:
    """The first and the last address that something on the network may have."""
    first, last = network.network_address + 1, network.broadcast_address
    return first, last - 1 if network.version == 4 else last


def default_gateway(cidr: str) -> str:
    """The first usable address."""
    return str(usable(ip_network(cidr))[0])


def default_ranges(cidr: str, gateway: str | None) -> list[Range]:
    """All that is usable, without the gateway."""
    first, last = usable(ip_network(cidr))
    if gateway is None or not first <= (hole := ip_address(gateway)) <= last:  # type: ignore[operator]
        return [Range(first=str(first), last=str(last))]
    parts = [(first, hole - 1)] if hole > first else []  # type: ignore[operator]
    parts += [(hole + 1, last)] if hole < last else []  # type: ignore[operator]
    return [Range(first=str(one), last=str(other)) for one, other in parts]


def size(ranges: Sequence[Range]) -> int:
    """How many addresses are in these ranges."""
    return sum(int(ip_address(one["last"])) - int(ip_address(one["first"])) + 1 for one in ranges)


def fault_of_member(address: str, cidr: str) -> str:
    """Why nothing on this subnet can have the address; "" when it can."""
    network, found = ip_network(cidr), ip_address(address)
    if found not in network:
        return f"{address} is not in {cidr}."
    first, last = usable(network)
    if not first <= found <= last:  # type: ignore[operator]
        return f"{address} is the address of {cidr} itself, or its broadcast address."
    return ""


def faults_of_plan(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Everything in a subnet's plan that does not fit its `cidr`. What is missing in `values` is not looked at.

    Members: `gateway` (text or None), `allocation_ranges`, `dns`, `routes`, each well-formed by itself.
    """
    if "cidr" not in values:
        return
    cidr = values["cidr"]
    if words := fault_of_subnet(ip_network(cidr)):
        yield Fault("/cidr", words)
        return
    gateway = values.get("gateway")
    if gateway and (words := fault_of_member(gateway, cidr)):
        yield Fault("/gateway", words)
    if values.get("allocation_ranges") is not None:
        yield from _faults_of_ranges(values["allocation_ranges"], cidr, gateway or default_gateway(cidr))
    version = ip_network(cidr).version
    for index, server in enumerate(values.get("dns") or ()):
        if ip_address(server).version != version:
            yield Fault(f"/dns/{index}", f"{server} is not an IPv{version} address, as the subnet's are.")
    yield from _faults_of_routes(values.get("routes") or (), cidr)


def _faults_of_ranges(ranges: Sequence[Range], cidr: str, gateway: str) -> Iterator[Fault]:
    good = []
    for index, one in enumerate(ranges):
        outside = [words for end in (one["first"], one["last"]) if (words := fault_of_member(end, cidr))]
        first, last = ip_address(one["first"]), ip_address(one["last"])
        if outside:
            yield Fault(f"/allocation_ranges/{index}", " ".join(dict.fromkeys(outside)))
        elif first > last:  # type: ignore[operator]
            yield Fault(f"/allocation_ranges/{index}", f"{first} comes after {last}.")
        else:
            good.append((first, last, index))
            if first <= ip_address(gateway) <= last:  # type: ignore[operator]
                yield Fault(f"/allocation_ranges/{index}", f"The gateway, {gateway}, is in it.")
    for (_, last, _), (first, _, index) in pairwise(sorted(good, key=lambda one: int(one[0]))):
        if first <= last:  # type: ignore[operator]
            yield Fault(f"/allocation_ranges/{index}", "It overlaps another one.")


def _faults_of_routes(routes: Sequence[Route], cidr: str) -> Iterator[Fault]:
    """Routes that the machines of a subnet are told."""
    seen: set[str] = set()
    for index, route in enumerate(routes):
        yield from (Fault(f"/routes/{index}{fault.pointer}", fault.message) for fault in faults_of_route(route, [cidr]))
        if route["destination"] in seen:
            yield Fault(f"/routes/{index}/destination", f"There are two routes to {route['destination']}.")
        seen.add(route["destination"])


def faults_of_route(route: Route, cidrs: Sequence[str]) -> Iterator[Fault]:
    """What is wrong with a route whose next hop should be on one of these subnets."""
    destination, hop = ip_network(route["destination"]), ip_address(route["next_hop"])
    if destination.version != hop.version:
        yield Fault("/next_hop", f"{hop} is not an IPv{destination.version} address, as {destination} is.")
    elif not any(hop in ip_network(cidr) for cidr in cidrs):
        yield Fault("/next_hop", f"{hop} is not in {' or '.join(cidrs) or 'any subnet that is joined'}.")
    if any(overlaps(str(destination), cidr) and destination.prefixlen >= ip_network(cidr).prefixlen for cidr in cidrs):
        yield Fault("/destination", f"{destination} is reached without a route.")


def overlaps(cidr: str, other: str) -> bool:
    one, two = ip_network(cidr), ip_network(other)
    return one.version == two.version and one.overlaps(two)  # type: ignore[arg-type]


def made_of_mac(cidr: str, mac: str) -> str:
    """The address that a machine makes of its MAC on an IPv6 subnet of 64 bits (SLAAC with EUI-64)."""
    octets = bytearray(bytes.fromhex(mac.replace(":", "")))
    octets[0] ^= 2
    return str(ip_network(cidr)[int.from_bytes(octets[:3] + b"\xff\xfe" + octets[3:])])


def nth_subnet(pool: str, prefix: int, number: int) -> str:
    """One of the networks of this prefix that a range is made of, counted round and round."""
    whole = ip_network(pool)
    count = 2 ** (prefix - whole.prefixlen)
    step = 2 ** (whole.max_prefixlen - prefix)
    return f"{whole.network_address + (number % count) * step}/{prefix}"
