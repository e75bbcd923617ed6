"""Moving an instance to another host, for admins of the cloud."""

from typing import Any

from django.http import HttpResponse

from cloud.pages import forms
from cloud.pages.generic import ItemFormPage
from compute import why_not
from compute.pages.instances import InstanceItemPage
from compute.services.taking import move_or_take_over
from storage import moving
from storage.api.volumes import MoveForm
from storage.pages.volumes import MAX_CHOICES, choices


class Move(InstanceItemPage, ItemFormPage):
    """To which host."""

    template, form = "compute/instances/move.html", MoveForm
    help = "operating#moving"
    fields = {"host": forms.TEXT, "take_over": forms.FLAG}

    def fill(self) -> dict[str, Any]:
        self.scope.require_cloud_admin()
        others = moving.able_hosts().exclude(pk=self.item.host_id).order_by("name")[:MAX_CHOICES]
        hosts = [("", "the best one"), *choices(others, lambda host: f"{host.name}, {host.free_disk_gib} GiB free")]
        leave = self.route("instance", self.item.pk)
        is_silent = bool(self.item.host and moving.is_silent(self.item.host))
        refusal = why_not.take_over(self.item) if is_silent else why_not.move(self.item)
        return {**super().fill(), "hosts": hosts, "leave": leave, "why_not": refusal, "is_silent": is_silent}

    def read(self) -> dict[str, Any]:
        return forms.read(self.request.POST, self.fields)

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        self.scope.require_cloud_admin()
        item, actor = self.item, self.scope.actor
        return self.mutate(
            lambda: move_or_take_over(instance=item, actor=actor, **self.validate(MoveForm, body)),
            body=body,
            to=self.route("instance", item.pk),
            done=f"{item.name} moves to another host.",
        )
