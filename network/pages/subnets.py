"""Subnets: ranges of addresses on networks."""

from typing import Any

from django.db.models import Count, QuerySet

from cloud.pages import forms
from cloud.pages.bulk import ForMany
from cloud.pages.deleting import DeletePage
from cloud.pages.generic import ChangePage, ListPage
from cloud.pages.lists import By
from network import addressing
from network.api.subnets import SubnetChanges, SubnetForm
from network.models import Network, Subnet
from network.pages.base import MAX_CHOICES, NetworkingPage
from network.pages.fields import GATEWAY, NEW_RANGES, RANGES, ROUTES, SERVERS, choices
from network.services import subnets


class SubnetPage(NetworkingPage):
    model, key, title = Subnet, "subnet", "Subnets"
    listed_at = "subnets"

    def rows(self) -> "QuerySet[Any]":
        own = Subnet.objects.filter(project=self.project).select_related("network", "project")
        return own.annotate(used=Count("addresses"))


class Subnets(SubnetPage, ListPage):
    template, form = "network/subnets/list.html", SubnetForm
    sorts = {"name": "name", "range": "cidr", "network": "network__name", "taken": "-used"}
    filters = (By("network", "network__name"),)
    live = "subnet port"
    fields = {
        "name": forms.REQUIRED,
        "network": forms.REQUIRED,
        "cidr": forms.REQUIRED,
        "gateway": GATEWAY,
        "allocation_ranges": NEW_RANGES,
        "dns": SERVERS,
        "routes": ROUTES,
        "dhcp": forms.FLAG,
        "labels": forms.LABELS,
    }

    def initial(self) -> dict[str, Any]:
        return {"dhcp": "on", **self.request.GET.dict()}

    def tell(self, shown: list[Any]) -> list[Any]:
        return [(subnet, addressing.size(subnet.allocation_ranges)) for subnet in shown]

    def around(self) -> dict[str, Any]:
        networks = Network.objects.filter(project=self.project).order_by("name")[:MAX_CHOICES]
        return {**super().around(), "networks": choices(networks)}

    def create(self, body: dict[str, Any]) -> Subnet:
        return subnets.create(actor=self.scope.actor, **body)

    def created(self, made: Subnet) -> str:
        return f"The subnet {made.name} is here."

    def bulk_verbs(self) -> tuple[ForMany, ...]:
        return (ForMany(DeleteSubnet),)


class ChangeSubnet(SubnetPage, ChangePage):
    """All but its range, gateway and network."""

    template, form = "network/subnets/change.html", SubnetChanges
    fields = {
        "name": forms.REQUIRED,
        "allocation_ranges": RANGES,
        "dns": SERVERS,
        "routes": ROUTES,
        "dhcp": forms.FLAG,
        "labels": forms.LABELS,
    }

    def change(self, changes: dict[str, Any]) -> Subnet:
        return subnets.update(subnet=self.item, actor=self.scope.actor, changes=changes)

    def after(self) -> str:
        return self.route("network", self.item.network_id)


class DeleteSubnet(SubnetPage, DeletePage):
    kind = "subnet"

    def delete(self) -> None:
        subnets.delete(subnet=self.item, actor=self.scope.actor, cascade=True)
