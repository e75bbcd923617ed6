"""Flavors: the sizes that are offered, and their prices."""

from typing import Any

from django.db.models import Count, QuerySet

from cloud.pages import forms
from cloud.pages.bulk import ForMany
from cloud.pages.generic import ChangePage, ListPage, ResourcePage, VerbPage
from compute import flavors
from compute.api.flavors import FlavorSerializer
from compute.models import Flavor


class FlavorPage(ResourcePage):
    model, key, title = Flavor, "flavor", "Flavors"
    listed_at = section = "flavors"
    help = "operating#flavors"
    for_cloud_admins = True
    form = FlavorSerializer
    fields = {
        "name": forms.REQUIRED,
        **dict.fromkeys(("vcpus", "memory_mib", "disk_gib"), forms.WHOLE),
        "network_mbps": forms.OPTIONAL_WHOLE,
        "price_per_hour": forms.TEXT,
        "enabled": forms.FLAG,
    }

    def rows(self) -> "QuerySet[Any]":
        return Flavor.objects.annotate(instance_count=Count("instances"))


class Flavors(FlavorPage, ListPage):
    """All of them, the smallest first."""

    template = "compute/flavors/list.html"
    sorts = {
        "memory": ("memory_mib", "vcpus", "name"),
        "name": "name",
        "vcpus": "vcpus",
        "disk": "disk_gib",
        "network": "network_mbps",
        "price": "price_per_hour",
        "instances": "-instance_count",
    }
    sort = "memory"
    live = "flavor instance"

    def initial(self) -> dict[str, Any]:
        return {"enabled": "on", "vcpus": 1, "memory_mib": 512, "disk_gib": 5, "price_per_hour": "0.0050"}

    def create(self, body: dict[str, Any]) -> Flavor:
        return flavors.create(actor=self.scope.actor, size=body)  # type: ignore[arg-type]

    def created(self, made: Flavor) -> str:
        return f"{made.name} is offered now."

    def bulk_verbs(self) -> tuple[ForMany, ...]:
        return (ForMany(DeleteFlavor),)


class OneFlavor(FlavorPage, ChangePage):
    """The same form, for one that exists."""

    template = "compute/flavors/change.html"
    can_undo = False

    def change(self, changes: dict[str, Any]) -> Flavor:
        return flavors.update(flavor=self.item, actor=self.scope.actor, changes=changes)  # type: ignore[arg-type]

    def changed(self, row: Flavor) -> str:
        return f"{row.name} is changed."


class DeleteFlavor(FlavorPage, VerbPage):
    def act(self) -> None:
        flavors.delete(flavor=self.item, actor=self.scope.actor)

    def done(self, result: None) -> str:
        return f"{self.item.name} is gone."
