"""Snapshots of all volumes of a project. They are taken on the page of their volume."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse

from cloud.pages import forms
from cloud.pages.deleting import DeletePage
from cloud.pages.generic import ChangePage, ItemFormPage, ListPage, ResourcePage
from cloud.pages.lists import By
from storage.api.image_fields import CreateImageForm
from storage.api.volumes import VolumeChanges
from storage.models import Image, Snapshot
from storage.services import captures, snapshots


class SnapshotPage(ResourcePage):
    model, key, title = Snapshot, "snapshot", "Snapshots"
    listed_at, section = "snapshots", "volumes"

    def rows(self) -> "QuerySet[Snapshot]":
        own = Snapshot.objects.filter(project=self.project, volume__trashed_at=None)
        return own.select_related("volume__active__host", "layer", "project")


class Snapshots(SnapshotPage, ListPage):
    template = "storage/snapshots/list.html"
    sorts = {"taken": "-created_at", "name": "name", "volume": "volume__name", "size": "-size_gib"}
    sort = "taken"
    filters = (By("volume", "volume__name"),)


class ChangeSnapshot(SnapshotPage, ChangePage):
    template, form = "storage/snapshots/change.html", VolumeChanges
    fields = {"name": forms.REQUIRED, "labels": forms.LABELS, "protected": forms.FLAG}

    def change(self, changes: dict[str, Any]) -> Snapshot:
        return snapshots.update(snapshot=self.item, actor=self.scope.actor, changes=changes)


class CreateImage(SnapshotPage, ItemFormPage):
    """An image of what it has kept."""

    template = "storage/snapshots/create_image.html"

    def fill(self) -> dict[str, Any]:
        frame = {"title": self.title, "the_list": self.the_list, "why_not": captures.why_not(self.item)}
        return {**super().fill(), **frame}

    def initial(self) -> dict[str, Any]:
        return {"name": self.item.name}

    def read(self) -> dict[str, Any]:
        post = self.request.POST
        return {**forms.required(post, "name"), **forms.texts(post, "version", "description")}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        def work() -> Image:
            said = self.validate(CreateImageForm, body)
            return captures.of_snapshot(snapshot=self.item, actor=self.scope.actor, **said)

        to = lambda image: self.route("image", image.pk)  # noqa: E731
        return self.mutate(work, body=body, to=to, done=lambda image: f"{image} is being made.")


class DeleteSnapshot(SnapshotPage, DeletePage):
    kind = "snapshot"

    def delete(self) -> None:
        snapshots.delete(snapshot=self.item, actor=self.scope.actor)
