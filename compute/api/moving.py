"""POST …/instances/{instance}/move: to another host."""

from typing import Any
from uuid import UUID

from django.urls import path

from cloud.api.views import Verb
from compute.api.instances import InstanceView
from compute.models import Instance
from compute.services.moving import planned
from compute.services.taking import move_or_take_over
from compute.workflows import TakeOverInstance
from storage.api.volumes import MoveForm
from storage.services import taking


class Move(InstanceView, Verb):
    forms = {"POST": MoveForm}
    needs_admin = {"POST": True}
    summaries = {"POST": "Move an instance"}

    def act(self, instance: Instance, body: dict[str, Any]) -> Instance:
        """To another host, by copying its disk and its volumes; it must be stopped. It is where it was until all of it
        has been copied. Its ports and their addresses follow.

        With `take_over` it is taken from a host that is not heard of, if it boots from a volume in a shared folder or
        in Ceph, or of a storage host, and has only such ones: it starts on another host once the one before can write
        nothing any more. What its guest had not written yet is lost, as after a power cut.
        """
        move_or_take_over(instance=instance, actor=self.actor, **body)
        return instance

    def plan(self, body: dict[str, Any]) -> dict[str, Any]:
        """From where to where, and about how many bytes its volumes have (null: their host has not said)."""
        ident = UUID(body["id"])
        return {"move": planned(Instance(pk=ident)) or taking.planned(TakeOverInstance.kind, "instance", ident)}


urlpatterns = [path("projects/<str:project>/instances/<str:ref>/move", Move.as_view())]
