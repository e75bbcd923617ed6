"""POST …/instances/{instance}/move: to another host."""

from typing import Any
from uuid import UUID

from django.urls import path

from cloud.api.views import Verb
from compute.api.instances import InstanceView
from compute.models import Instance
from compute.services.moving import move, planned
from storage.api.volumes import MoveForm


class Move(InstanceView, Verb):
    forms = {"POST": MoveForm}
    needs_admin = {"POST": True}
    summaries = {"POST": "Move an instance"}

    def act(self, instance: Instance, body: dict[str, Any]) -> Instance:
        """To another host, by copying its disk and its volumes; it must be stopped. It is where it was until all of it
        has been copied. Its ports and their addresses follow.
        """
        move(instance=instance, actor=self.actor, **body)
        return instance

    def plan(self, body: dict[str, Any]) -> dict[str, Any]:
        """From where to where, and about how many bytes its volumes have (null: their host has not said)."""
        return {"move": planned(Instance(pk=UUID(body["id"])))}


urlpatterns = [path("projects/<str:project>/instances/<str:ref>/move", Move.as_view())]
