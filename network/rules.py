"""Rules of security groups: how they are written, and which of them mean something."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Any

from cloud.problems import Fault
from network.models import SecurityGroup
from network.models.security import ICMP, ICMPV6, TCP, WITH_PORTS, Direction, Family, protocol_name

FIELDS = (
    "direction", "family", "protocol", "port_min", "port_max", "icmp_type", "icmp_code", "remote_cidr", "remote_group",
)  # fmt: skip
# What a project's first group lets through: everything out, and in what comes from its other members.
EVERYTHING_OUT = tuple({"direction": Direction.EGRESS, "family": family} for family in Family)
MEMBERS_IN = tuple({"direction": Direction.INGRESS, "family": family} for family in Family)

SSH = 22
SSH_IN = tuple(
    {"direction": Direction.INGRESS, "family": family, "protocol": TCP, "port_min": SSH} for family in Family
)
ANYWHERE = (None, "0.0.0.0/0", "::/0")


def opens_ssh_only(group: SecurityGroup) -> bool:
    """Whether a group lets SSH in from anywhere, by IPv4 at least, and lets nothing else in."""
    coming = [rule for rule in group.rules.all() if rule.direction == Direction.INGRESS]
    is_only_ssh = all(
        (rule.protocol, rule.port_min, rule.port_max) == (TCP, SSH, SSH)
        and rule.remote_group_id is None
        and rule.remote_cidr in ANYWHERE
        for rule in coming
    )
    return is_only_ssh and any(rule.family == Family.V4 for rule in coming)


def lets_in(group: SecurityGroup, protocol: int, port: int) -> bool:
    """Whether a group lets a port be reached by IPv4 from addresses: members of a group do not count."""
    return any(
        rule.direction == Direction.INGRESS
        and rule.family == Family.V4
        and rule.protocol in (None, protocol)
        and (rule.port_min is None or rule.port_min <= port <= (rule.port_max or rule.port_min))
        and rule.remote_group_id is None
        for rule in group.rules.all()
    )


def completed(rule: Mapping[str, Any]) -> dict[str, Any]:
    """The rule with all of its fields: the family follows from the rest, one port is a range of one."""
    whole = {field: rule.get(field) for field in FIELDS}
    if whole["family"] is None:
        cidr = whole["remote_cidr"]
        is_v6 = whole["protocol"] == ICMPV6 or (cidr is not None and ":" in cidr)
        whole["family"] = Family.V6 if is_v6 else Family.V4
    if whole["port_max"] is None:
        whole["port_max"] = whole["port_min"]
    return {**whole, "description": rule.get("description", "")}


def faults_of(rule: Mapping[str, Any]) -> Iterator[Fault]:
    """Everything that is wrong with a completed rule."""
    family, protocol = rule["family"], rule["protocol"]
    if (protocol, family) in ((ICMP, Family.V6), (ICMPV6, Family.V4)):
        yield Fault("/protocol", f"{protocol_name(protocol)} is not a protocol of {Family(family).label}.")
    yield from _faults_of_ports(rule)
    if rule["icmp_type"] is not None and protocol not in (ICMP, ICMPV6):
        yield Fault("/icmp_type", f"Only icmp and icmpv6 have types; {protocol_name(protocol)} has none.")
    if rule["icmp_code"] is not None and rule["icmp_type"] is None:
        yield Fault("/icmp_code", "A code means something together with a type only.")
    if rule["remote_cidr"] is not None:
        if rule["remote_group"] is not None:
            yield Fault("/remote_group", "Give a CIDR or a group, not both.")
        if ip_network(rule["remote_cidr"]).version != family:
            yield Fault("/remote_cidr", f"{rule['remote_cidr']} is not of {Family(family).label}.")


def _faults_of_ports(rule: Mapping[str, Any]) -> Iterator[Fault]:
    first, last, protocol = rule["port_min"], rule["port_max"], rule["protocol"]
    if first is None and last is None:
        return
    if protocol not in WITH_PORTS:
        yield Fault("/port_min", f"Only tcp and udp have ports; {protocol_name(protocol)} has none.")
    if first is None:
        yield Fault("/port_min", "Give the first port of the range as well.")
    elif last < first:
        yield Fault("/port_max", f"{last} is less than {first}, where the range begins.")
