"""NICs on pages: the rows of the Launch form, and what an instance has of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Prefetch, QuerySet
from django.http import QueryDict

from cloud.tenancy.models import Project
from compute.models import Instance
from compute.networking import DEFAULT, HOLDER
from network.models import Network, Port, SecurityGroup, SecurityGroupRule
from network.models.security import Direction
from network.pages import rules
from network.pages.base import MAX_CHOICES, port_words
from network.rules import opens_ssh_only
from network.services.port_forwards import LOOPBACK

# What a row's select says: "network/back" or "port/mine". Names have no slash.
NETWORK, PORT = "network/", "port/"


@dataclass(frozen=True)
class Row:
    """One NIC of the form: what was chosen, the address on it (empty: any that is free), and whether the default route
    is to be by it (not empty)."""

    choice: str
    address: str = ""
    gateway: str = ""


def choices(project: Project) -> dict[str, Any]:
    """What a new instance can be plugged into, and the groups that its new ports can be in."""
    networks = Network.objects.filter(project=project).prefetch_related("subnets").order_by("name")
    free = Port.objects.filter(project=project, holder_id=None).select_related("network").prefetch_related("addresses")
    groups = groups_in_words(SecurityGroup.objects.filter(project=project).order_by("created_at", "pk")[:MAX_CHOICES])
    return {
        "network_choices": [(f"{NETWORK}{one.name}", network_words(one)) for one in networks[:MAX_CHOICES]],
        "port_choices": [(f"{PORT}{one.name}", port_words(one)) for one in free.order_by("name")[:MAX_CHOICES]],
        "groups": sorted((group.name, words) for group, words in groups),
        "ssh_group": next((group.name for group, _ in groups if opens_ssh_only(group)), ""),
    }


def network_words(network: Network) -> str:
    """A network for people who choose one: "default (10.0.0.0/24)"."""
    ranges = ", ".join(subnet.cidr for subnet in network.subnets.all())
    return f"{network.name} ({ranges or 'no subnet: no address'})"


def groups_in_words(groups: "QuerySet[SecurityGroup]") -> list[tuple[SecurityGroup, list[str]]]:
    """Security groups, each with what it lets in."""
    ordered = SecurityGroupRule.objects.select_related("remote_group").order_by("created_at", "pk")
    found = groups.prefetch_related(Prefetch("rules", ordered))
    return [(group, rules.summary(group.rules.all(), Direction.INGRESS)) for group in found]


def rows(given: QueryDict, offered: dict[str, Any]) -> list[Row]:
    """The rows of the form as they were filled in; at first one on `default`, or on the first network that there is."""
    if "nic" in given:
        chosen = given.getlist("nic")
        further = (given.getlist(name) + [""] * len(chosen) for name in ("nic_address", "nic_gateway"))
        found = [Row(*row) for row in zip(chosen, *further, strict=False) if row[0]]
        return found or [Row("")]
    names = [choice for choice, _ in offered["network_choices"]]
    first = f"{NETWORK}{DEFAULT}"
    return [Row(first if first in names else next(iter(names), ""))]


def read(post: QueryDict) -> dict[str, Any]:
    """The body's `networks` and `security_groups`; each is left out where it says what is so by itself."""
    if "nic" not in post:
        return {}
    networks = [_nic(row) for row in rows(post, {}) if row.choice]
    groups = post.getlist("security_groups")
    body: dict[str, Any] = {}
    if networks and networks != [{"network": DEFAULT}]:
        body["networks"] = networks
    if groups != [DEFAULT]:
        body["security_groups"] = groups
    return body | ({"open_ssh": True} if "open_ssh" in post else {})


def _nic(row: Row) -> dict[str, Any]:
    where = PORT if row.choice.startswith(PORT) else NETWORK
    nic: dict[str, Any] = {where.rstrip("/"): row.choice.removeprefix(where)}
    if row.address.strip():
        nic["address"] = row.address.strip()
    return nic | {"gateway": True} if row.gateway else nic


def told(ports: Iterable[Any]) -> list[dict[str, Any]]:
    """NICs by their ports, as `reaching.plugged` gives them: groups, and what leads in from outside."""
    return [
        {
            "port": port,
            "leads": any(one.leads for one in port.addresses.all()),
            "addresses": port.addresses.all(),
            "groups": sorted(port.security_groups.all(), key=str),
            "floating": [one for address in port.addresses.all() for one in address.floating_ips.all()],
            "forwards": [
                (one.floating_ip.address if one.floating_ip else LOOPBACK, one)
                for address in port.addresses.all()
                for one in address.port_forwards.all()
            ],
        }
        for port in ports
    ]


def planned(instance: Instance) -> list[dict[str, Any]]:
    """In a preview: the networks and the addresses that a new instance would have."""
    own = Port.objects.filter(holder_type=HOLDER, holder_id=instance.pk).select_related("network")
    fetched = own.prefetch_related("addresses").order_by("holder_slot")
    return [{"network": port.network.name, "addresses": list(port.addresses.all())} for port in fetched]


def open_to(instance: Instance) -> list[tuple[SecurityGroup, list[str]]]:
    """What its security groups let in, in words."""
    own = Port.objects.filter(holder_type=HOLDER, holder_id=instance.pk)
    return groups_in_words(SecurityGroup.objects.filter(ports__in=own).distinct().order_by("name"))
