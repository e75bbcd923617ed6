"""Routers: what they join, and whether they lead out."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse

from cloud.pages import forms, rows
from cloud.pages.bulk import ForMany
from cloud.pages.deleting import DeletePage
from cloud.pages.generic import ChangePage, ItemFormPage, ListPage, VerbPage
from network.api.routers import AttachForm, RouterChanges, RouterForm
from network.models import Router, Subnet
from network.pages.base import MAX_CHOICES, NetworkingPage
from network.pages.fields import ROUTES, choices
from network.services import routers
from network.status import of_network


class RouterPage(NetworkingPage):
    model, key, title = Router, "router", "Routers"
    listed_at = "routers"

    def rows(self) -> "QuerySet[Any]":
        return super().rows().select_related("project").prefetch_related("on_hosts")


class Routers(RouterPage, ListPage):
    template, form = "network/routers/list.html", RouterForm
    fields = {"name": forms.REQUIRED, "external": forms.FLAG, "snat": forms.FLAG, "labels": forms.LABELS}

    def initial(self) -> dict[str, Any]:
        return {"external": "on", "snat": "on"}

    def tell(self, shown: list[Any]) -> list[Any]:
        joined: dict[Any, list[Subnet]] = {}
        for leg in routers.legs_of(self.project):
            joined.setdefault(leg.port.holder_id, []).append(leg.subnet)
        found = self.with_status(shown, of_network)
        return [(router, status, joined.get(router.pk, [])) for router, status in found]

    def create(self, body: dict[str, Any]) -> Router:
        return routers.create(project=self.project, actor=self.scope.actor, **body)

    def created(self, made: Router) -> str:
        return f"The router {made.name} is here. Attach it to subnets now."

    def after_creating(self, made: Router) -> str:
        return self.route("router", made.pk)

    def bulk_verbs(self) -> tuple[ForMany, ...]:
        return (ForMany(DeleteRouter),)


class OneRouter(RouterPage, ItemFormPage):
    """What it joins, with a form to attach one more subnet."""

    template = "network/routers/router.html"

    def fill(self) -> dict[str, Any]:
        legs = list(routers.legs(self.item))
        [(_, status)] = self.with_status([self.item], of_network)
        others = Subnet.objects.filter(project=self.project).exclude(pk__in=[leg.subnet_id for leg in legs])
        free = others.select_related("network").order_by("name")[:MAX_CHOICES]
        return {
            **super().fill(),
            "legs": legs,
            "status": status,
            "subnets": choices(free, lambda one: f"{one.name}: {one.cidr} on {one.network}"),
        }

    def read(self) -> dict[str, Any]:
        return forms.read(self.request.POST, {"subnet": forms.REQUIRED, "address": forms.TEXT})

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        return self.mutate(
            lambda: routers.attach(router=self.item, actor=self.scope.actor, **self.validate(AttachForm, body)),
            body=body,
            to=self.request.path,
            done=f"{self.item.name} has joined the subnet.",
        )


class DetachSubnet(RouterPage, VerbPage):
    def act(self) -> Subnet:
        subnet: Subnet = rows.find(Subnet.objects.filter(project=self.project), self.kwargs["subnet"])
        routers.detach(router=self.item, actor=self.scope.actor, subnet=subnet)
        return subnet

    def done(self, result: Subnet) -> str:
        return f"{self.item.name} has parted from {result.name}."

    def undo(self) -> tuple[str, dict[str, str]]:
        return self.after(), {"subnet": str(self.kwargs["subnet"])}

    def after(self) -> str:
        return self.route("router", self.kwargs["router"])


class ChangeRouter(RouterPage, ChangePage):
    template, form = "network/routers/change.html", RouterChanges
    fields = {
        "name": forms.REQUIRED,
        "external": forms.FLAG,
        "snat": forms.FLAG,
        "routes": ROUTES,
        "labels": forms.LABELS,
    }

    def change(self, changes: dict[str, Any]) -> Router:
        return routers.update(router=self.item, actor=self.scope.actor, changes=changes)

    def after(self) -> str:
        return self.route("router", self.item.pk)


class DeleteRouter(RouterPage, DeletePage):
    kind = "router"

    def delete(self) -> None:
        routers.delete(router=self.item, actor=self.scope.actor, cascade=True)

    def leave(self) -> str:
        return self.route("router", self.item.pk)
