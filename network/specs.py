"""What hosts are told: all of a network or of a router, rendered when the order is claimed."""

from collections.abc import Iterable
from typing import Any

from django.db.models import OuterRef, Prefetch, Subquery

from network.default_routes import with_default_routes
from network.models import (
    Address,
    FloatingIP,
    NetworkOnHost,
    Port,
    PortForward,
    RouterOnHost,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)
from network.models.security import PROTOCOLS
from network.services import routers
from network.services.port_forwards import LOOPBACK

NAMES = {number: name for name, number in PROTOCOLS.items()}


def network(row: NetworkOnHost, verb: str) -> dict[str, Any]:
    """A whole network, with the ports of all hosts: those of this one have its id."""
    what = row.network
    ports = _plugged(what.ports.all())
    return {
        "id": str(row.pk),
        "network": {
            "id": str(what.pk),
            "name": what.name,
            "project": {"id": str(what.project_id), "name": what.project.name},
            "vni": what.vni,
            "mtu": what.mtu,
            "domain": what.domain,
        },
        "subnets": [_subnet(subnet) for subnet in what.subnets.order_by("created_at", "pk")],
        "ports": [_port(port) for port in ports],
        "groups": _groups(ports),
        "peers": _peers(row),
        "host": str(row.host_id),
    }


def _plugged(ports: Any) -> list[Any]:
    """Those that are on some host."""
    addresses = Prefetch("addresses", with_default_routes(Address.objects.all()))
    there = ports.filter(host__isnull=False).prefetch_related(addresses, "security_groups")
    return list(there.order_by("created_at", "pk"))


def _subnet(subnet: Subnet) -> dict[str, Any]:
    return {
        "id": str(subnet.pk),
        "cidr": subnet.cidr,
        "gateway": subnet.gateway,
        "dns": subnet.dns,
        "routes": subnet.routes,
        "dhcp": subnet.dhcp,
    }


def _port(port: Any) -> dict[str, Any]:
    """`aside`: the families whose gateway its guest is not told, as another of its NICs has the default route."""
    return {
        "id": str(port.pk),
        "mac": port.mac,
        "addresses": [{"address": one.address, "subnet": str(one.subnet_id)} for one in port.addresses.all()],
        "security_groups": sorted(str(group.pk) for group in port.security_groups.all()),
        "allowed_pairs": [
            {"address": pair["address"], "mac": pair.get("mac", port.mac)} for pair in port.allowed_address_pairs
        ],
        "host": str(port.host_id),
        "name": port.holder_name,
        "mbps": port.mbps,
        "aside": sorted({one.family for one in port.addresses.all() if one.is_aside}),
    }


def _groups(ports: Iterable[Port]) -> dict[str, Any]:
    """The groups of these ports with their rules, and those that the rules name; each with its members' addresses."""
    own = {group.pk for port in ports for group in port.security_groups.all()}
    rules = list(SecurityGroupRule.objects.filter(group__in=own).order_by("created_at", "pk"))
    named = {rule.remote_group_id for rule in rules if rule.remote_group_id}
    groups: dict[str, Any] = {str(pk): {"rules": [], "members": []} for pk in sorted(own | named)}
    for rule in rules:
        groups[str(rule.group_id)]["rules"].append(_rule(rule))
    members = SecurityGroup.objects.filter(pk__in=named, ports__host__isnull=False)
    for group, address in members.values_list("pk", "ports__addresses__address").order_by("pk", "ports__addresses"):
        if address:
            groups[str(group)]["members"].append(address)
    return groups


def _rule(rule: SecurityGroupRule) -> dict[str, Any]:
    remote = {"cidr": rule.remote_cidr} if rule.remote_cidr else None
    return {
        "direction": rule.direction,
        "family": rule.family,
        "protocol": NAMES.get(rule.protocol, rule.protocol) if rule.protocol is not None else None,
        "port_min": rule.port_min,
        "port_max": rule.port_max,
        "icmp_type": rule.icmp_type,
        "icmp_code": rule.icmp_code,
        "remote": {"group": str(rule.remote_group_id)} if rule.remote_group_id else remote,
    }


def _peers(row: NetworkOnHost) -> list[dict[str, str]]:
    """The hosts that have the network, this one among them, and where their ends of its tunnels are."""
    rows = NetworkOnHost.objects.filter(network=row.network_id, wanted=True).exclude(vtep="").order_by("host")
    return [{"host": str(host), "vtep": vtep} for host, vtep in rows.values_list("host_id", "vtep")]


def router(row: RouterOnHost, verb: str) -> dict[str, Any]:
    """A whole router, with what leads in from outside to the machines of this host."""
    what = row.router
    legs = list(routers.legs(what))
    led = Address.objects.filter(subnet__in=[leg.subnet_id for leg in legs], port__host=row.host_id)
    if not what.external:
        led = led.none()
    return {
        "id": str(row.pk),
        "router": {"id": str(what.pk), "name": what.name, "snat": what.snat},
        "legs": [
            {
                "network": str(leg.port.network_id),
                "subnet": str(leg.subnet_id),
                "address": f"{leg.address}/{leg.subnet.prefix_length}",
            }
            for leg in legs
        ],
        "routes": what.routes,
        "external": what.external,
        "floating_ips": [
            {"id": str(floating.pk), "address": floating.address, "to": floating.target.address}  # type: ignore[union-attr]
            for floating in FloatingIP.objects.filter(target__in=led).select_related("target").order_by("pk")
        ],
        "forwards": [
            _forward(forward, row)
            for forward in PortForward.objects.filter(target__in=led)
            .select_related("target__port", "floating_ip")
            .annotate(leader=_leading_host())
            .order_by("pk")
        ],
    }


def _leading_host() -> Subquery:
    """The host that all ports of a forward's floating IP lead to: that of the oldest one whose machine is on a host."""
    siblings = PortForward.objects.filter(floating_ip=OuterRef("floating_ip"), target__port__host__isnull=False)
    return Subquery(siblings.order_by("created_at", "pk").values("target__port__host")[:1])


def _forward(forward: Any, row: RouterOnHost) -> dict[str, Any]:
    listen = forward.floating_ip.address if forward.floating_ip else LOOPBACK
    network_id = str(forward.target.port.network_id)
    return {
        "id": str(forward.pk),
        "protocol": forward.protocol,
        "listen": {"address": listen, "port": forward.listen_port},
        "to": {"address": forward.target.address, "port": forward.target_port, "network": network_id},
        **({"elsewhere": True} if forward.floating_ip and forward.leader != row.host_id else {}),
    }


def nic(port: Port) -> dict[str, Any]:
    """A NIC that is plugged into a port, for the spec of its machine. `awaits`: what its host knows the network by, and
    the generation of it that has the port, as long as the host has not said that it has made that."""
    row = NetworkOnHost.objects.filter(network=port.network_id, host=port.host_id).first()
    addresses = list(port.addresses.select_related("subnet").order_by("pk"))
    subnets = [one.subnet for one in addresses]
    return {
        "port": str(port.pk),
        "slot": port.holder_slot,
        "network": str(port.network_id),
        "awaits": {"id": str(row.pk), "generation": row.generation} if row and not row.is_true else None,
        "mac": port.mac,
        "mtu": port.network.mtu,
        "addresses": [f"{one.address}/{one.subnet.prefix_length}" for one in addresses],
        "dns": [server for subnet in subnets for server in subnet.dns],
        "dhcp6": any(subnet.family == 6 and subnet.dhcp for subnet in subnets),
    }
