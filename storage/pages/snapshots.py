"""Snapshots of all volumes of a project. They are taken on the page of their volume."""

from typing import Any

from django.db.models import QuerySet

from cloud.pages import forms
from cloud.pages.bulk import ForMany
from cloud.pages.deleting import DeletePage
from cloud.pages.generic import ChangePage, ListPage, ResourcePage
from cloud.pages.lists import By
from storage.api.volumes import VolumeChanges
from storage.models import Image, Snapshot
from storage.pages.captures import CreateImagePage
from storage.services import captures, snapshots


class SnapshotPage(ResourcePage):
    model, key, title = Snapshot, "snapshot", "Snapshots"
    listed_at, section = "snapshots", "volumes"
    help = "storage#snapshots"

    def rows(self) -> "QuerySet[Snapshot]":
        own = Snapshot.objects.filter(project=self.project, volume__trashed_at=None)
        return own.select_related("volume__active__host", "layer", "project")


class Snapshots(SnapshotPage, ListPage):
    template = "storage/snapshots/list.html"
    sorts = {"taken": "-created_at", "name": "name", "volume": "volume__name", "size": "-size_gib"}
    sort = "taken"
    filters = (By("volume", "volume__name"),)

    def bulk_verbs(self) -> tuple[ForMany, ...]:
        return (ForMany(DeleteSnapshot),)


class ChangeSnapshot(SnapshotPage, ChangePage):
    template, form = "storage/snapshots/change.html", VolumeChanges
    fields = {"name": forms.REQUIRED, "labels": forms.LABELS, "protected": forms.FLAG}

    def change(self, changes: dict[str, Any]) -> Snapshot:
        return snapshots.update(snapshot=self.item, actor=self.scope.actor, changes=changes)


class CreateImage(SnapshotPage, CreateImagePage):
    """An image of what it has kept."""

    template = "storage/snapshots/create_image.html"
    help = "images#from-a-volume"

    def initial(self) -> dict[str, Any]:
        return {"name": self.item.name}

    def why_not(self) -> str:
        return captures.why_not(self.item)

    def create(self, said: dict[str, Any]) -> Image:
        return captures.of_snapshot(snapshot=self.item, actor=self.scope.actor, **said)


class DeleteSnapshot(SnapshotPage, DeletePage):
    kind = "snapshot"

    def delete(self) -> None:
        snapshots.delete(snapshot=self.item, actor=self.scope.actor)
