"""Whether security groups let a first packet pass, by which rule; and the rule that is missing."""

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from django.db.models import Count

from network.doctor.hops import Fix, Hop, Packet, blocked, ok
from network.models import Port, SecurityGroup, SecurityGroupRule
from network.models.security import Direction
from network.services import ports, security_groups
from network.services.ports import MAX_GROUPS

HOPS = {Direction.INGRESS: "ingress", Direction.EGRESS: "egress"}
WAYS = {Direction.INGRESS: ("in", "from"), Direction.EGRESS: ("out", "to")}


def lets_pass(rule: SecurityGroupRule, direction: str, packet: Packet) -> bool:
    """Whether a rule lets a packet pass. Of one from anywhere: from all addresses."""
    return _is_about(rule, direction, packet) and _is_from(rule, packet)


def _is_about(rule: SecurityGroupRule, direction: str, packet: Packet) -> bool:
    """Whether the rule fits, whoever the other end is."""
    port = packet.wish.port
    return (
        (rule.direction, rule.family) == (direction, packet.family)
        and rule.protocol in (None, packet.protocol)
        and (rule.port_min is None or (port is not None and rule.port_min <= port <= (rule.port_max or rule.port_min)))
        and rule.icmp_type in (None, packet.echo)
        and rule.icmp_code in (None, 0)
    )


def _is_from(rule: SecurityGroupRule, packet: Packet) -> bool:
    if rule.remote_group_id is not None:
        return rule.remote_group_id in packet.groups
    if rule.remote_cidr is None:
        return True
    remote = ip_network(rule.remote_cidr)
    return remote.prefixlen == 0 if packet.remote is None else ip_address(packet.remote) in remote


def judge(port: Port, direction: Direction, packet: Packet) -> Hop:
    """The hop of a port's security groups."""
    own = list(port.security_groups.prefetch_related("rules__remote_group").order_by("name"))
    name, (way, of) = HOPS[direction], WAYS[direction]
    looked_at = f"security groups of {port.holder_name or port}: {', '.join(group.name for group in own) or 'none'}"
    what = f"{packet.wish} {way} {of} {packet.remote or 'anywhere'}"
    for group in own:
        if rule := next((rule for rule in group.rules.all() if lets_pass(rule, direction, packet)), None):
            return ok(name, looked_at, f"{group} lets {what}: {rule}.")
    narrow = [str(rule) for group in own for rule in group.rules.all() if _is_about(rule, direction, packet)]
    words = f"No rule of its security groups lets {what}." if own else "It is in no security group: nothing passes."
    if narrow:
        words += f" They let {packet.wish} {way} only as: {'; '.join(narrow[:3])}."
    return blocked(name, looked_at, words, _fix(port, own, direction, packet))


def _fix(port: Port, own: Sequence[SecurityGroup], direction: Direction, packet: Packet) -> Fix | None:
    """Put the port into a group that opens just this; where there is none, add the rule to the group fewest are in."""
    others = SecurityGroup.objects.filter(project=port.project_id).exclude(pk__in=[group.pk for group in own])
    fitting = (group for group in others.prefetch_related("rules").order_by("name") if _opens(group, direction, packet))
    found = next(fitting, None) or (None if own else next(iter(ports.default_groups(port.project_id)), None))
    if found is not None and len(own) < MAX_GROUPS:
        return Fix(
            "PATCH",
            f"/api/v1/projects/{port.project}/ports/{port}",
            {"security_groups": [group.name for group in (*own, found)]},
            f"Puts {port.holder_name or port} into the security group {found}.",
            lambda actor: ports.update(port=port, actor=actor, security_groups=[*own, found]),
        )
    counted = SecurityGroup.objects.filter(pk__in=[group.pk for group in own]).annotate(used=Count("ports"))
    group = counted.order_by("used", "name").first()
    if group is None:
        return None
    rule: dict[str, Any] = {"direction": str(direction), "family": packet.family, "remote_cidr": packet.whole}
    rule |= {} if packet.wish.port is None else {"port_min": packet.wish.port, "port_max": packet.wish.port}
    protocol = "icmpv6" if packet.wish.protocol == "icmp" and packet.family == 6 else packet.wish.protocol
    numbered = {**rule, "protocol": packet.protocol}
    members = "" if group.used == 1 else f" It holds for all {group.used} ports in this group."
    way, of = WAYS[direction]
    return Fix(
        "POST",
        f"/api/v1/projects/{port.project}/security-groups/{group}/rules",
        {**rule, "protocol": protocol},
        f"Adds a rule to {group}: {packet.wish} {way} {of} {packet.remote or 'anywhere'}.{members}",
        lambda actor: security_groups.add_rule(group=group, actor=actor, rule=numbered),
    )


def _opens(group: SecurityGroup, direction: Direction, packet: Packet) -> bool:
    """Whether a group lets this pass, and that way nothing but this protocol and port."""
    rules = [rule for rule in group.rules.all() if rule.direction == direction]
    exact = all(
        (rule.protocol, rule.port_min, rule.port_max) == (packet.protocol, packet.wish.port, packet.wish.port)
        for rule in rules
    )
    return exact and any(lets_pass(rule, direction, packet) for rule in rules)
