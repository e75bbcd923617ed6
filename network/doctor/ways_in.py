"""What leads to an address from outside of the cloud, and the call that makes it where nothing does."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from django.conf import settings

from network.doctor.hops import Fix, Hop, Wish, blocked, broken, ok
from network.models import Address, AddressPool, FloatingIP, PortForward, Router
from network.services import floating_ips, port_forwards
from network.services.port_forwards import LOOPBACK

NAME = "way_in"
NO_IPV6 = "Nothing leads in from outside by IPv6: floating IPs and port forwards are IPv4."


@dataclass(frozen=True)
class WayIn:
    """A floating IP or port forward. `keeps_sender`: the guest sees the sender's own address, not the router's."""

    row: FloatingIP | PortForward
    target: Address
    listens: str
    keeps_sender: bool

    @property
    def floating(self) -> str:
        """The floating IP that packets come to; "" where there is none."""
        row = self.row if isinstance(self.row, FloatingIP) else self.row.floating_ip
        return row.address if row else ""

    @property
    def hop(self) -> Hop:
        what = "floating IP" if isinstance(self.row, FloatingIP) else "port forward"
        return ok(NAME, f"the {what} {self.row}", f"{self.listens} leads to {self.target.address}.")


def ways_to(targets: Sequence[Address], wish: Wish) -> list[WayIn]:
    """All that leads to one of these addresses, and to the port that is wished for."""
    floating = FloatingIP.objects.filter(target__in=targets).order_by("created_at")
    by_id = {target.pk: target for target in targets}
    found = [_way(one, by_id[one.target_id], one.address, one.address) for one in floating if one.target_id]
    forwards = PortForward.objects.filter(target__in=targets, protocol=wish.protocol, target_port=wish.port or 0)
    for one in forwards.select_related("floating_ip").order_by("created_at"):
        address = one.floating_ip.address if one.floating_ip else LOOPBACK
        found.append(_way(one, by_id[one.target_id], address, f"Port {one.listen_port} of {address}"))
    return found


def _way(row: FloatingIP | PortForward, target: Address, address: str, listens: str) -> WayIn:
    host = target.port.host
    pools = host.capabilities.get("network", {}).get("pools", []) if host else []
    is_routed = any(ip_address(address) in ip_network(pool) for pool in pools)
    return WayIn(row, target, listens, keeps_sender=isinstance(row, FloatingIP) or is_routed)


def none_leads(target: Address, wish: Wish, router: Router | None) -> Hop:
    """The hop where nothing leads to the address: with what would, once its subnet has a router with a way out."""
    looked_at = f"floating IPs and port forwards to {target.address}"
    if target.subnet.family == 6:
        return blocked(NAME, looked_at, NO_IPV6)
    words = f"Nothing outside leads to {wish} of {target.address}."
    others = PortForward.objects.filter(target=target, listen_port=wish.port or 0, protocol=wish.protocol)
    if (other := others.first()) is not None:
        words += f" Port {other.listen_port} outside leads to its port {other.target_port}: ask about that one."
    fix = _lead(target, wish) if router else None
    if fix is None and not settings.PUBLISH_ON_LOOPBACK and not AddressPool.objects.exists():
        return broken(NAME, looked_at, f"{words} This cloud has no address pool: an admin of the cloud can make one.")
    return blocked(NAME, looked_at, words, fix)


def _lead(target: Address, wish: Wish) -> Fix | None:
    port, project = target.port, target.port.project
    to = {"port": port.name, "address": target.address}
    if settings.PUBLISH_ON_LOOPBACK and (number := wish.port):
        return Fix(
            "POST",
            f"/api/v1/projects/{project}/port-forwards",
            {"protocol": wish.protocol, "to": {**to, "target_port": number}},
            f"Leads a port of {LOOPBACK} on the computer that this cloud runs on to {wish} of {target.address}.",
            lambda actor: port_forwards.create(
                port=port, actor=actor, target_port=number, protocol=wish.protocol, address=target.address
            ),
        )
    spare = FloatingIP.objects.filter(project=project, target=None, port_forwards=None).order_by("created_at").first()
    if spare is not None:
        return Fix(
            "POST",
            f"/api/v1/projects/{project}/floating-ips/{spare}/associate",
            to,
            f"Leads the floating IP {spare.address}, which leads nowhere now, to {target.address}.",
            lambda actor: floating_ips.associate(floating=spare, actor=actor, port=port, address=target.address),
        )
    pool = AddressPool.objects.order_by("name").first()
    if pool is None:
        return None
    return Fix(
        "POST",
        f"/api/v1/projects/{project}/floating-ips",
        {"pool": pool.name, "port": port.name},
        f"Takes a floating IP of {pool} and leads it to {target.address}.",
        lambda actor: floating_ips.create(project=project, actor=actor, pool=pool, port=port),
    )
