"""Rules of security groups as people say them, and as a form asks for them."""

import re
from collections.abc import Iterable
from typing import Any

from django.http import QueryDict

from cloud.pages import forms
from network.models import SecurityGroupRule
from network.models.security import ICMP, ICMPV6, TCP, UDP, Direction, protocol_name
from network.rules import ANYWHERE

SERVICES = {
    (TCP, 22): "SSH", (TCP, 25): "SMTP", (TCP, 53): "DNS", (UDP, 53): "DNS", (TCP, 80): "HTTP", (UDP, 123): "NTP",
    (TCP, 443): "HTTPS", (TCP, 3306): "MySQL", (TCP, 3389): "RDP", (TCP, 5432): "PostgreSQL", (TCP, 6379): "Redis",
    (UDP, 51820): "WireGuard",
}  # fmt: skip
PING = {ICMP: 8, ICMPV6: 128}  # the type of an echo request
# What can be chosen in the form: with a protocol and a port, or a type, of its own.
PRESETS: dict[str, dict[str, Any]] = {
    "ssh": {"protocol": "tcp", "port_min": 22},
    "http": {"protocol": "tcp", "port_min": 80},
    "https": {"protocol": "tcp", "port_min": 443},
    "ping": {"protocol": "icmp", "icmp_type": PING[ICMP]},
    "ping6": {"protocol": "icmpv6", "icmp_type": PING[ICMPV6]},
    "any": {},
}
CHOICES = [
    ("ssh", "SSH (TCP 22)"), ("http", "HTTP (TCP 80)"), ("https", "HTTPS (TCP 443)"), ("ping", "Ping (ICMP)"),
    ("ping6", "Ping (ICMPv6)"), ("tcp", "TCP"), ("udp", "UDP"), ("icmp", "ICMP"), ("icmpv6", "ICMPv6"),
    ("47", "GRE"), ("50", "ESP"), ("132", "SCTP"), ("any", "Everything"),
]  # fmt: skip
PORTS = re.compile(r"(\d{1,5})\s*(?:-|to)\s*(\d{1,5})")


def in_words(rule: SecurityGroupRule) -> str:
    """What passes, and to or from whom: "SSH (TCP 22) from anywhere"."""
    way = "from" if rule.direction == Direction.INGRESS else "to"
    return f"{_what(rule)} {way} {_whom(rule)}"


def _what(rule: SecurityGroupRule) -> str:
    if rule.protocol is None:
        return "Everything"
    name = protocol_name(rule.protocol)
    called = {"icmpv6": "ICMPv6"}.get(name, name.upper() if rule.protocol in (ICMP, TCP, UDP) else name.capitalize())
    if rule.protocol in PING:
        if rule.icmp_type is None:
            return f"All of {called}"
        if rule.icmp_type == PING[rule.protocol] and not rule.icmp_code:
            return f"Ping ({called})"
        return f"{called} type {rule.icmp_type}" + ("" if rule.icmp_code is None else f", code {rule.icmp_code}")
    if rule.port_min is None:
        return f"All of {called}" if rule.protocol in (TCP, UDP) else called
    if rule.port_min != rule.port_max:
        return f"{called} ports {rule.port_min} to {rule.port_max}"
    service = SERVICES.get((rule.protocol, rule.port_min))
    return f"{service} ({called} {rule.port_min})" if service else f"{called} port {rule.port_min}"


def _whom(rule: SecurityGroupRule) -> str:
    if rule.remote_group_id == rule.group_id:
        return "members of this group"
    if rule.remote_group:
        return f"members of {rule.remote_group.name}"
    return "anywhere" if rule.remote_cidr in ANYWHERE else str(rule.remote_cidr)


def summary(rules: Iterable[SecurityGroupRule], direction: str) -> list[str]:
    """What passes in one direction, each thing once: IPv4 and IPv6 are one for people."""
    return list(dict.fromkeys(in_words(rule) for rule in rules if rule.direction == direction))


def read(post: QueryDict) -> dict[str, Any]:
    """The API's body of a rule, out of the form's fields."""
    what = post.get("protocol", "").strip()
    body: dict[str, Any] = {"direction": post.get("direction", "")}
    body |= PRESETS[what] if what in PRESETS else {"protocol": int(what) if what.isdecimal() else what}
    ports = post.get("port_min", "").strip()
    if found := PORTS.fullmatch(ports):
        body |= {"port_min": int(found[1]), "port_max": int(found[2])}
    else:
        body |= forms.whole(post, "port_min")
    body |= forms.whole(post, "icmp_type", "icmp_code", "family")
    return {**body, **forms.texts(post, "remote_cidr", "remote_group", "description")}


def write(rule: SecurityGroupRule) -> dict[str, str]:
    """The form's fields that mean this rule."""
    one_port = rule.port_min == rule.port_max
    fields = {
        "direction": rule.direction,
        "family": rule.family,
        "protocol": "any" if rule.protocol is None else protocol_name(rule.protocol).removeprefix("protocol "),
        "port_min": rule.port_min if one_port else f"{rule.port_min}-{rule.port_max}",
        "icmp_type": rule.icmp_type,
        "icmp_code": rule.icmp_code,
        "remote_cidr": rule.remote_cidr,
        "remote_group": rule.remote_group_id,
        "description": rule.description,
    }
    return {name: "" if value is None else str(value) for name, value in fields.items()}
