"""Networks: all of a project with a drawing of how they hang together, and one with all that is on it."""

from typing import Any

from django.db.models import Count, Prefetch, QuerySet
from rest_framework.exceptions import ValidationError

from cloud.api.fields import ReferenceField
from cloud.api.scope import Scope
from cloud.pages import forms
from cloud.pages.bulk import ForMany
from cloud.pages.deleting import DeletePage
from cloud.pages.generic import ChangePage, ItemPage, ListPage
from network.api.fields import CidrText
from network.api.networks import NetworkForm
from network.models import Address, Network, Port, Router, Subnet
from network.pages.base import NetworkingPage
from network.pages.fields import NUMBER, choices
from network.pages.topology import draw
from network.services import networks, outside, routers, subnets
from network.services.ports import ROUTER
from network.status import of_network, of_port


def routers_of(scope: Scope) -> "QuerySet[Router]":
    return Router.objects.filter(project_id=scope.project_id)


class NetworkWithSubnetForm(NetworkForm):
    """A network with its first subnet, which has its name, and the router that this is attached to."""

    cidr = CidrText(required=False)
    router = ReferenceField(routers_of, required=False)

    def validate(self, body: dict[str, Any]) -> dict[str, Any]:
        if "router" in body and "cidr" not in body:
            raise ValidationError({"cidr": ["A router is attached to a subnet. Give its range."]})
        return body


class NetworkPage(NetworkingPage):
    model, key, title = Network, "network", "Networks"
    listed_at = "networks"
    help = "networks#what-a-project-begins-with"


class Networks(NetworkPage, ListPage):
    template = "network/networks/list.html"
    partials = {"topology": "network/networks/_topology.html"}
    sorts = {"name": "name", "ports": "-port_count"}
    live = "network subnet port"
    form = NetworkWithSubnetForm
    fields = {
        "name": forms.REQUIRED,
        "mtu": NUMBER,
        "cidr": forms.TEXT,
        "router": forms.TEXT,
        "labels": forms.LABELS,
    }

    def adorn(self, found: "QuerySet[Any]") -> "QuerySet[Any]":
        own: QuerySet[Any] = found.annotate(port_count=Count("ports"))
        return own.prefetch_related(Prefetch("subnets", Subnet.objects.order_by("created_at")), "on_hosts")

    def fill(self) -> dict[str, Any]:
        return {"topology": draw(self.project)} if self.part_wanted == "topology" else super().fill()

    def tell(self, shown: list[Any]) -> list[Any]:
        return self.with_status(shown, of_network)

    def around(self) -> dict[str, Any]:
        routers = Router.objects.filter(project=self.project).order_by("name")
        choices_of_router = [("", "none"), *choices(routers)]
        return {**super().around(), "routers": choices_of_router, "topology": draw(self.project)}

    def create(self, body: dict[str, Any]) -> Network:
        cidr, router = body.pop("cidr", None), body.pop("router", None)
        network = networks.create(project=self.project, actor=self.scope.actor, **body)
        if cidr:
            subnet = subnets.create(network=network, actor=self.scope.actor, name=network.name, cidr=cidr)
            if router:
                routers.attach(router=router, actor=self.scope.actor, subnet=subnet)
        return network

    def created(self, made: Network) -> str:
        return f"The network {made.name} is here."

    def after_creating(self, made: Network) -> str:
        return self.route("network", made.pk)

    def bulk_verbs(self) -> tuple[ForMany, ...]:
        return (ForMany(DeleteNetwork),)


class OneNetwork(NetworkPage, ItemPage):
    """Its subnets, the routers on them, and what is plugged in."""

    template = "network/networks/network.html"
    partials = {"network-ports": "network/networks/_ports.html"}

    def rows(self) -> "QuerySet[Any]":
        return super().rows().prefetch_related("on_hosts")

    def fill(self) -> dict[str, Any]:
        network = self.item
        [(_, status)] = self.with_status([network], of_network)
        own = Port.objects.filter(network=network).select_related("network")
        shown = self.slice(own.prefetch_related("addresses", "security_groups", "network__on_hosts"), ("name", "id"))
        legs = Address.objects.filter(port__network=network, port__holder_type=ROUTER).select_related("port", "subnet")
        return {
            **super().fill(),
            **shown,
            "status": status,
            "ports": self.with_status(shown["rows"], of_port),
            "subnets": network.subnets.annotate(used=Count("addresses")).order_by("created_at"),
            "legs": list(legs.order_by("port__holder_name")),
            "leading_in": outside.uses_of_addresses(Address.objects.filter(port__network=network)),
        }


class ChangeNetwork(NetworkPage, ChangePage):
    template, form = "network/networks/change.html", NetworkForm
    fields = {"name": forms.REQUIRED, "mtu": forms.WHOLE, "labels": forms.LABELS}

    def change(self, changes: dict[str, Any]) -> Network:
        return networks.update(network=self.item, actor=self.scope.actor, changes=changes)

    def after(self) -> str:
        return self.route("network", self.item.pk)


class DeleteNetwork(NetworkPage, DeletePage):
    kind = "network"

    def delete(self) -> None:
        networks.delete(network=self.item, actor=self.scope.actor, cascade=True)

    def leave(self) -> str:
        return self.route("network", self.item.pk)
