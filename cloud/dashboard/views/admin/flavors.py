"""Flavors: the sizes that are offered, and their prices."""

from typing import Any

from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud.api.errors import NotFound
from cloud.pages import forms
from cloud.pages.base import FormPage, Page
from compute import flavors
from compute.api.flavors import FlavorSerializer
from compute.models import Flavor

FIELDS = ("vcpus", "memory_mib", "disk_gib")


class Flavors(FormPage):
    template = "dashboard/admin/flavors.html"
    section = "flavors"
    for_cloud_admins = True

    def fill(self) -> dict[str, Any]:
        found = Flavor.objects.annotate(instance_count=Count("instances"))
        return {"flavors": list(found.order_by("memory_mib", "vcpus", "name")[:500])}

    def initial(self) -> dict[str, Any]:
        return {"enabled": "on", "vcpus": 1, "memory_mib": 512, "disk_gib": 5, "price_per_hour": "0.0050"}

    def read(self) -> dict[str, Any]:
        post = self.request.POST
        numbers = {**forms.required(post, *FIELDS), **forms.whole(post, *FIELDS)}
        return {
            **forms.required(post, "name"),
            **numbers,
            **forms.texts(post, "price_per_hour"),
            **forms.flags(post, "enabled"),
        }

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        return self.mutate(
            lambda: flavors.create(actor=self.scope.actor, size=self.validate(FlavorSerializer, body)),  # type: ignore[arg-type]
            body=body,
            to=reverse("flavors"),
            done=lambda made: f"{made.name} is offered now.",
        )


class OneFlavor(Flavors):
    """The same form, for one that exists."""

    template = "dashboard/admin/flavor.html"
    flavor: Flavor

    def enter(self, **kwargs: Any) -> None:
        super().enter(**kwargs)
        found = Flavor.objects.annotate(instance_count=Count("instances")).filter(pk=kwargs["flavor"]).first()
        if found is None:
            raise NotFound()
        self.flavor = found

    def fill(self) -> dict[str, Any]:
        return {"flavor": self.flavor}

    def initial(self) -> dict[str, Any]:
        own = {name: getattr(self.flavor, name) for name in ("name", *FIELDS, "price_per_hour")}
        return {**own, "enabled": "on" if self.flavor.enabled else ""}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        def change() -> Flavor:
            changes = self.validate(FlavorSerializer, body, partial=True)
            return flavors.update(flavor=self.flavor, actor=self.scope.actor, changes=changes)  # type: ignore[arg-type]

        return self.mutate(change, body=body, to=reverse("flavors"), done=lambda flavor: f"{flavor.name} is changed.")


class DeleteFlavor(Page):
    for_cloud_admins = True
    section = "flavors"

    def post(self, request: HttpRequest, flavor: str) -> HttpResponse:
        found = Flavor.objects.filter(pk=flavor).first()
        if found is None:
            raise NotFound()
        return self.mutate(
            lambda: flavors.delete(flavor=found, actor=self.scope.actor),
            to=reverse("flavors"),
            done=f"{found.name} is gone.",
        )
