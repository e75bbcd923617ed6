"""Ports: places on networks where machines and routers are plugged in."""

from typing import Any

from django.db.models import QuerySet

from cloud.pages import forms
from cloud.pages.bulk import ForMany
from cloud.pages.deleting import DeletePage
from cloud.pages.generic import ChangePage, ListPage
from cloud.pages.lists import By
from network.api.ports import PortForm, PortUpdate, ports_of
from network.models import Network, Port, SecurityGroup
from network.pages.base import MAX_CHOICES, NetworkingPage
from network.pages.fields import NEW_ADDRESSES, PAIRS, TICKED, choices
from network.services import outside, ports
from network.status import of_port


class PortPage(NetworkingPage):
    model, key, title = Port, "port", "Ports"
    listed_at = "ports"

    def rows(self) -> "QuerySet[Port]":
        return ports_of(self.scope)

    def groups(self) -> list[tuple[str, str]]:
        own = SecurityGroup.objects.filter(project=self.project).order_by("name")
        return choices(own[:MAX_CHOICES])


class Ports(PortPage, ListPage):
    template, form = "network/ports/list.html", PortForm
    sorts = {"name": "name", "holder": "holder_name", "network": "network__name", "mac": "mac"}
    searched = ("name", "holder_name", "mac")
    filters = (By("network", "network__name"),)
    live = "port instance"
    fields = {
        "name": forms.TEXT,
        "network": forms.REQUIRED,
        "addresses": NEW_ADDRESSES,
        "security_groups": TICKED,
        "allowed_address_pairs": PAIRS,
        "labels": forms.LABELS,
    }

    def initial(self) -> dict[str, Any]:
        default = [str(group.pk) for group in ports.default_groups(self.project.pk)]
        return {"security_groups": default, **self.request.GET.dict()}

    def tell(self, shown: list[Any]) -> list[Any]:
        return self.with_status(shown, of_port)

    def around(self) -> dict[str, Any]:
        networks = Network.objects.filter(project=self.project).order_by("name")[:MAX_CHOICES]
        return {**super().around(), "networks": choices(networks), "groups": self.groups()}

    def create(self, body: dict[str, Any]) -> Port:
        return ports.create(actor=self.scope.actor, **body)

    def created(self, made: Port) -> str:
        return f"The port {made.name} is here."

    def bulk_verbs(self) -> tuple[ForMany, ...]:
        return (ForMany(DeletePort),)


class ChangePort(PortPage, ChangePage):
    """What it is, and what can be changed of it. What is plugged in stays plugged in."""

    template, form = "network/ports/change.html", PortUpdate
    fields = {
        "name": forms.REQUIRED,
        "security_groups": TICKED,
        "allowed_address_pairs": PAIRS,
        "labels": forms.LABELS,
        "gateway": forms.FLAG,
    }

    def initial(self) -> dict[str, Any]:
        return {**super().initial(), "gateway": "on" if ports.has_default_route(self.item) else ""}

    def fill(self) -> dict[str, Any]:
        [(_, status)] = self.with_status([self.item], of_port)
        is_nic = ports.is_held_from_above(self.item)
        facts = {"status": status, "leading_in": outside.uses_of(self.item), "is_nic": is_nic}
        return {**super().fill(), **facts, "groups": self.groups()}

    def change(self, changes: dict[str, Any]) -> Port:
        if changes.get("gateway") == ports.has_default_route(self.item):
            del changes["gateway"]  # it is so without having been chosen
        return ports.update(port=self.item, actor=self.scope.actor, **changes)


class DeletePort(PortPage, DeletePage):
    kind = "port"

    def delete(self) -> None:
        ports.delete(port=self.item, actor=self.scope.actor, cascade=True)
