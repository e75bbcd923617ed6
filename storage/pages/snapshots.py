"""Snapshots of all volumes of a project. They are taken on the page of their volume."""

from typing import Any

from django.db.models import QuerySet

from cloud.pages import forms
from cloud.pages.deleting import DeletePage
from cloud.pages.generic import ChangePage, ListPage, ResourcePage
from storage.api.volumes import VolumeChanges
from storage.models import Snapshot
from storage.services import snapshots


class SnapshotPage(ResourcePage):
    model, key, title = Snapshot, "snapshot", "Snapshots"
    listed_at, section = "snapshots", "volumes"

    def rows(self) -> "QuerySet[Snapshot]":
        own = Snapshot.objects.filter(project=self.project, volume__trashed_at=None)
        return own.select_related("volume__active__host", "layer", "project")


class Snapshots(SnapshotPage, ListPage):
    template = "storage/snapshots/list.html"
    order = ("-created_at", "id")


class ChangeSnapshot(SnapshotPage, ChangePage):
    template, form = "storage/snapshots/change.html", VolumeChanges
    fields = {"name": forms.REQUIRED, "labels": forms.LABELS, "protected": forms.FLAG}

    def change(self, changes: dict[str, Any]) -> Snapshot:
        return snapshots.update(snapshot=self.item, actor=self.scope.actor, changes=changes)


class DeleteSnapshot(SnapshotPage, DeletePage):
    kind = "snapshot"

    def delete(self) -> None:
        snapshots.delete(snapshot=self.item, actor=self.scope.actor)
