"""Emptying a host, for admins of the cloud: what would move, how far it is, and what stays."""

from typing import Any

from django.http import HttpRequest, HttpResponse

from cloud.hosts.models import Host
from cloud.hosts.pages.hosts import HostPage
from cloud.operations import engine
from cloud.pages import forms
from cloud.pages.generic import ItemFormPage, ItemPage
from compute import draining
from compute.api.draining import DrainForm
from compute.drain import drain, planned

MAX_SHOWN = 200  # things of a list


class Drain(HostPage, ItemFormPage):
    """What would move and what stays, before it is done; how far it is, while and after it is."""

    template, form = "compute/draining/drain.html", DrainForm
    help = "operating#moving"
    partials = {"drain": "compute/draining/_drain.html"}
    fields = {"restart": forms.FLAG}

    def fill(self) -> dict[str, Any]:
        host = Host.objects.get(pk=self.item.pk)
        operation = draining.latest(host)
        found = planned(host, restart=False)
        return {
            **super().fill(),
            "title": self.title,
            "live": operation if operation and operation.finished_at is None else None,
            "last": operation,
            "left": draining.left_behind(operation)[:MAX_SHOWN] if operation else [],
            "moves": found["moves"][:MAX_SHOWN],
            "stays": found["stays"][:MAX_SHOWN],
        }

    def read(self) -> dict[str, Any]:
        return forms.read(self.request.POST, self.fields)

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        host, actor = Host.objects.get(pk=self.item.pk), self.scope.actor
        return self.mutate(
            lambda: drain(host=host, actor=actor, **self.validate(DrainForm, body)),
            body=body,
            to=self.route("drain-host", host.pk),
            done=f"{host.name} is being emptied.",
        )


class CancelDrain(HostPage, ItemPage):
    """A button."""

    http_method_names = ("post",)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        operation, actor = draining.latest(Host.objects.get(pk=self.item.pk)), self.scope.actor
        return self.mutate(
            lambda: engine.cancel(operation.pk, actor=actor) if operation else None,
            body={},
            to=self.route("drain-host", self.item.pk),
            done="What moves just now stays where it is. The host stays cordoned.",
        )
