"""Floating IPs: addresses outside of the cloud that a project holds, and where they lead."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse

from cloud.pages import forms
from cloud.pages.base import Undo
from cloud.pages.bulk import ForMany
from cloud.pages.deleting import DeletePage
from cloud.pages.generic import ChangePage, ItemFormPage, ListPage, VerbPage
from cloud.pages.lists import By
from network.api.floating_ips import AssociateForm, FloatingIPChanges, FloatingIPForm, floating_ips_of
from network.models import AddressPool, FloatingIP
from network.pages.base import NetworkingPage, port_words
from network.pages.fields import choices
from network.services import floating_ips


class FloatingIPPage(NetworkingPage):
    model, key, title = FloatingIP, "floating", "Floating IPs"
    listed_at = section = "floating-ips"
    help = "networks#letting-somebody-in"

    def rows(self) -> "QuerySet[FloatingIP]":
        return floating_ips_of(self.scope)

    def port_choices(self) -> list[tuple[str, str]]:
        return choices(self.open_ports(), port_words)


class FloatingIPs(FloatingIPPage, ListPage):
    template, form = "network/floating_ips/list.html", FloatingIPForm
    sorts = {"address": "address", "pool": "pool__name"}
    sort = "address"
    searched = ("name", "address")
    filters = (By("pool", "pool__name"),)
    live = "floating_ip port instance"
    fields = {**dict.fromkeys(("name", "pool", "address", "port"), forms.TEXT), "labels": forms.LABELS}

    def tell(self, shown: list[Any]) -> list[Any]:
        return self.with_way_in(shown, lambda one: one.target.port if one.target else None)

    def around(self) -> dict[str, Any]:
        return {
            **super().around(),
            "pools": choices(AddressPool.objects.order_by("name"), lambda pool: f"{pool.name}: {pool.cidr}"),
            "ports": [("", "nothing yet"), *self.port_choices()],
        }

    def create(self, body: dict[str, Any]) -> FloatingIP:
        return floating_ips.create(project=self.project, actor=self.scope.actor, **body)

    def created(self, made: FloatingIP) -> str:
        return f"{made.address} belongs to {self.project.name} now."

    def bulk_verbs(self) -> tuple[ForMany, ...]:
        return (ForMany(Disassociate, "disassociate", "Disassociate", "cross", ""), ForMany(DeleteFloatingIP))


class Associate(FloatingIPPage, ItemFormPage):
    """Point it at a port."""

    template = "network/floating_ips/associate.html"

    def initial(self) -> dict[str, Any]:
        return {"port": str(self.item.target.port_id)} if self.item.target else {}

    def fill(self) -> dict[str, Any]:
        return {**super().fill(), "ports": self.port_choices(), "title": self.title, "the_list": self.the_list}

    def read(self) -> dict[str, Any]:
        return forms.read(self.request.POST, {"port": forms.REQUIRED, "address": forms.TEXT})

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        def point() -> FloatingIP:
            to = self.validate(AssociateForm, body)
            return floating_ips.associate(floating=self.item, actor=self.scope.actor, **to)

        return self.mutate(point, body=body, to=self.the_list, done=lambda one: f"{one.address} leads to {one.target}.")


class Disassociate(FloatingIPPage, VerbPage):
    def act(self) -> str:
        self.led_to = str(self.item.target.port_id) if self.item.target else ""
        floating_ips.disassociate(floating=self.item, actor=self.scope.actor)
        return str(self.item.address)

    def done(self, result: str) -> str:
        return f"{result} leads nowhere now. It stays yours."

    def undo(self) -> Undo | None:
        return (self.route("associate-floating-ip", self.item.pk), {"port": self.led_to}) if self.led_to else None


class ChangeFloatingIP(FloatingIPPage, ChangePage):
    """Its name and labels."""

    template, form = "network/floating_ips/change.html", FloatingIPChanges
    fields = {"name": forms.REQUIRED, "labels": forms.LABELS}

    def change(self, changes: dict[str, Any]) -> FloatingIP:
        return floating_ips.update(floating=self.item, actor=self.scope.actor, changes=changes)


class DeleteFloatingIP(FloatingIPPage, DeletePage):
    kind = "floating_ip"

    def delete(self) -> None:
        floating_ips.delete(floating=self.item, actor=self.scope.actor, cascade=True)
