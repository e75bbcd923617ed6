"""What a host is told of networks, read and checked: all errors are ValueErrors, in words."""

import hashlib
import ipaddress
import json
import re
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

Elements = frozenset[tuple[str, ...]]  # of a set of nftables

PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58}
ICMP = (1, 58)
WITH_PORTS = (6, 17, 33, 132, 136)  # TCP, UDP, DCCP, SCTP, UDP-Lite
ALL = (0, 0xFFFF)
MAX_MBPS = 1_000_000
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Rule:
    """Packets that a group lets through. `range`: ports, or of ICMP type * 256 + code; `protocol` None: any."""

    direction: str
    family: int
    protocol: int | None
    range: tuple[int, int]
    remote: Network | str  # the id of a group: its members


def _written(members: Collection[Address]) -> dict[int, Elements]:
    return {version: frozenset((str(each),) for each in members if each.version == version) for version in (4, 6)}


@dataclass(frozen=True)
class Group:
    id: str
    rules: tuple[Rule, ...]
    members: frozenset[Address]

    def with_rules(self, rules: tuple[Rule, ...]) -> "Group":
        """The same members under other rules."""
        changed = Group(self.id, rules, self.members)
        changed.__dict__["written"] = self.written
        return changed

    def with_members(self, gone: frozenset[Address], new: frozenset[Address]) -> "Group":
        """The same rules for other members."""
        changed = Group(self.id, self.rules, self.members - gone | new)
        less, more = _written(gone), _written(new)
        changed.__dict__["written"] = {
            family: had - less[family] | more[family] for family, had in self.written.items()
        }
        if "compiled" in self.__dict__:  # by `groups`, of the rules alone
            changed.__dict__["compiled"] = self.__dict__["compiled"]
        return changed

    @cached_property
    def written(self) -> dict[int, Elements]:
        """The members' addresses by family, as elements of a set."""
        return _written(self.members)


@dataclass(frozen=True)
class Subnet:
    id: str
    network: Network
    gateway: Address | None
    dns: tuple[Address, ...]
    routes: tuple[tuple[Network, Address], ...]
    dhcp: bool


@dataclass(frozen=True)
class Port:
    """`device`: the name of its tap. `pairs`: further addresses that its guest may use, each with the MAC. `mbps`: how
    many Mbit/s pass it each way, None: as many as do. `aside`: the families, 4 or 6, whose gateway its guest is not
    told, as another of its NICs has the default route."""

    id: str
    mac: str
    addresses: tuple[Address, ...]
    subnets: tuple[str, ...]
    groups: tuple[str, ...]
    pairs: tuple[tuple[Network, str], ...]
    host: str
    name: str
    mbps: int | None = None
    aside: frozenset[int] = frozenset()

    def has_all_of(self, before: "Port") -> bool:
        """Whether its guest has at least the addresses and the groups that it had."""
        mine = (self.addresses, self.pairs, self.groups)
        return self.mac == before.mac and all(
            set(had) <= set(has) for had, has in zip((before.addresses, before.pairs, before.groups), mine, strict=True)
        )

    @cached_property
    def device(self) -> str:
        return device_name("p", self.id)

    @cached_property
    def link_local(self) -> Address:
        """The address that a guest makes of its MAC (EUI-64)."""
        return link_local(self.mac)


@dataclass(frozen=True)
class NetworkSpec:
    """A network as one host needs it. `id` is the resource on this host, `network` the network itself; `peers`: where
    the tunnels of its other hosts end."""

    id: str
    network: str
    vni: int
    mtu: int
    domain: str
    subnets: dict[str, Subnet]
    ports: tuple[Port, ...]
    groups: dict[str, Group]
    peers: dict[str, Address]
    host: str
    project: str = ""

    @cached_property
    def local(self) -> tuple[Port, ...]:
        return tuple(port for port in self.ports if port.host == self.host)

    @classmethod
    def read(cls, spec: dict[str, Any], before: tuple[dict[str, Any], "NetworkSpec"] | None = None) -> "NetworkSpec":
        """Raises ValueError, in words, for a spec that means nothing.

        `before`: an earlier spec and what was read of it; parts that are as they were come from there. When no port
        has changed, `ports` is the very same tuple.
        """
        try:
            return cls(
                id=as_id(spec["id"]),
                network=as_id(spec["network"]["id"]),
                vni=as_within(spec["network"]["vni"], 1, 2**24 - 1, "VNI"),
                mtu=as_within(spec["network"]["mtu"], 68, 65535, "MTU"),
                domain=_domain(spec["network"].get("domain") or "internal"),
                subnets={subnet["id"]: _subnet(subnet) for subnet in spec["subnets"]},
                ports=_ports(spec["ports"], before),
                groups=_groups(spec["groups"], before),
                peers={
                    peer["host"]: ipaddress.ip_address(peer["vtep"])
                    for peer in spec.get("peers", ())
                    if peer["host"] != spec["host"]
                },
                host=spec["host"],
                project=str((spec["network"].get("project") or {}).get("id", "")),
            )._checked()
        except KeyError as error:
            raise ValueError(f"the spec lacks {error}") from error
        except (TypeError, AttributeError) as error:
            raise ValueError(f"the spec is malformed: {error}") from error

    def takes_from(self, before: "NetworkSpec") -> bool:
        """Whether something that might pass before may not any more, so that what is established has to be judged."""
        for id, group in before.groups.items():
            mine = self.groups.get(id)
            if mine is group:
                continue
            if mine is None or set(group.rules) - set(mine.rules) or group.members - mine.members:
                return True
        if self.ports is before.ports:
            return False
        mine_by_id = {port.id: port for port in self.local}
        return not all(port.id in mine_by_id and mine_by_id[port.id].has_all_of(port) for port in before.local)

    def _checked(self) -> "NetworkSpec":
        wanted = {id for port in self.ports for id in port.groups}
        wanted |= {
            rule.remote for group in self.groups.values() for rule in group.rules if isinstance(rule.remote, str)
        }
        if lost := wanted - set(self.groups):
            raise ValueError(f"security group {min(lost)} is named and not described")
        return self


def changed(before: Collection[Port], after: Collection[Port]) -> tuple[list[Port], list[Port]]:
    """The ports that are gone and those that are new; one that has changed is both. Unchanged are the same objects."""
    known, here = {id(port) for port in before}, {id(port) for port in after}
    return [port for port in before if id(port) not in here], [port for port in after if id(port) not in known]


def link_local(mac: str) -> ipaddress.IPv6Address:
    """The link-local address that is made of a MAC (EUI-64)."""
    octets = bytearray(bytes.fromhex(mac.replace(":", "")))
    octets[0] ^= 2
    return ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + octets[:3] + b"\xff\xfe" + octets[3:])


def device_name(prefix: str, *parts: str) -> str:
    """A stable name for a device: 15 characters are all that the kernel allows."""
    return prefix + hashlib.sha256("/".join(parts).encode()).hexdigest()[:13]


def as_id(value: str) -> str:
    return str(uuid.UUID(value))


def as_within(value: Any, low: int, high: int, what: str) -> int:
    if not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{what} {value!r} is not a number between {low} and {high}")
    return value


def _mac(value: str) -> str:
    if not MAC.fullmatch(value.lower()) or int(value[:2], 16) & 1:
        raise ValueError(f"{value!r} is not the MAC of a device")
    return value.lower()


def _domain(value: str) -> str:
    if not all(LABEL.fullmatch(label) for label in value.lower().split(".")):
        raise ValueError(f"{value!r} is not a domain name")
    return value.lower()


def as_routes(values: Any) -> tuple[tuple[Network, Address], ...]:
    return tuple((ipaddress.ip_network(v["destination"]), ipaddress.ip_address(v["next_hop"])) for v in values)


def _subnet(value: dict[str, Any]) -> Subnet:
    gateway = value.get("gateway")
    return Subnet(
        id=value["id"],
        network=ipaddress.ip_network(value["cidr"]),
        gateway=ipaddress.ip_address(gateway) if gateway else None,
        dns=tuple(ipaddress.ip_address(server) for server in value.get("dns", ())),
        routes=as_routes(value.get("routes", ())),
        dhcp=bool(value.get("dhcp", True)),
    )


def _ports(raw: list[dict[str, Any]], before: tuple[dict[str, Any], NetworkSpec] | None) -> tuple[Port, ...]:
    if before is None:
        return tuple(_port(port) for port in raw)
    old, read = before
    if raw == old["ports"]:
        return read.ports
    known = {port["id"]: (port, is_read) for port, is_read in zip(old["ports"], read.ports, strict=True)}
    found = ((port, known.get(port["id"])) for port in raw)
    return tuple(same[1] if same and same[0] == port else _port(port) for port, same in found)


def _groups(raw: dict[str, Any], before: tuple[dict[str, Any], NetworkSpec] | None) -> dict[str, Group]:
    old, read = (before[0]["groups"], before[1].groups) if before else ({}, {})
    groups = {}
    for id, group in raw.items():
        known = read.get(as_id(id)) if id in old else None
        group_now = _changed(known, old[id], group) if known else _group(id, group)
        groups[group_now.id] = group_now
    return groups


def _changed(group: Group, old: dict[str, Any], raw: dict[str, Any]) -> Group:
    """A group as it is read now. Of rules and of members there may be thousands: only new ones are read."""
    if raw == old:
        return group
    if raw["rules"] != old["rules"]:
        known = {id(rule): is_read for rule, is_read in zip(old["rules"], group.rules, strict=True)}
        group = group.with_rules(tuple(known.get(id(rule)) or _rule(rule) for rule in raw["rules"]))
    had, has = set(old.get("members", ())), set(raw.get("members", ()))
    if had != has:
        group = group.with_members(_members(had - has), _members(has - had))
    return group


def _members(texts: Iterable[str]) -> frozenset[Address]:
    return frozenset(ipaddress.ip_address(member) for member in texts)


def _port(value: dict[str, Any]) -> Port:
    mac = _mac(value["mac"])
    name = (value.get("name") or "").lower()
    pairs = value.get("allowed_pairs", ())
    return Port(
        id=as_id(value["id"]),
        mac=mac,
        addresses=tuple(ipaddress.ip_address(each["address"]) for each in value["addresses"]),
        subnets=tuple(each["subnet"] for each in value["addresses"]),
        groups=tuple(sorted({as_id(id) for id in value.get("security_groups", ())})),
        pairs=tuple((ipaddress.ip_network(pair["address"]), _mac(pair.get("mac") or mac)) for pair in pairs),
        host=value.get("host") or "",
        name=name if LABEL.fullmatch(name) else "",  # what is no host name has none
        mbps=None if value.get("mbps") is None else as_within(value["mbps"], 1, MAX_MBPS, "Mbit/s"),
        aside=frozenset(value.get("aside", ())),
    )


def _group(id: str, value: dict[str, Any]) -> Group:
    return Group(as_id(id), tuple(_rule(rule) for rule in value["rules"]), _members(value.get("members", ())))


def _rule(value: dict[str, Any]) -> Rule:
    if value["direction"] not in ("ingress", "egress"):
        raise ValueError(f"{value['direction']!r} is not a direction")
    family = value["family"]
    if family not in (4, 6):
        raise ValueError(f"{family!r} is not an address family: 4 or 6")
    named = value.get("protocol")
    protocol = None if named is None else as_within(PROTOCOLS.get(named, named), 0, 255, "protocol")
    remote = value.get("remote") or {"cidr": "0.0.0.0/0" if family == 4 else "::/0"}
    where: Network | str = as_id(remote["group"]) if "group" in remote else ipaddress.ip_network(remote["cidr"])
    if not isinstance(where, str) and where.version != family:
        raise ValueError(f"{where} is not of IPv{family}")
    return Rule(value["direction"], family, protocol, _range(protocol, value), where)


def _range(protocol: int | None, value: dict[str, Any]) -> tuple[int, int]:
    low, high = value.get("port_min"), value.get("port_max")
    if protocol in ICMP and value.get("icmp_type") is not None:
        kind = as_within(value["icmp_type"], 0, 255, "ICMP type")
        code = value.get("icmp_code")
        first, last = (0, 255) if code is None else (as_within(code, 0, 255, "ICMP code"),) * 2
        return kind << 8 | first, kind << 8 | last
    if protocol not in WITH_PORTS or low is None and high is None:
        return ALL
    low = as_within(high if low is None else low, 0, 0xFFFF, "port")
    return low, as_within(low if high is None else high, low, 0xFFFF, "last port")


def digest(spec: dict[str, Any]) -> str:
    """Of a spec as it was told: what a host has applied is the same when this is."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]
