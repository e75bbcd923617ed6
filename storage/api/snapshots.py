"""/api/v1/projects/{project}/snapshots"""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers

from cloud.api.fields import LabelsField
from cloud.api.pagination import Filter
from cloud.api.serializers import ReferenceSerializer
from cloud.api.views import Collection, InProject, Item
from storage.api.captures import CreateImage
from storage.api.volumes import VolumeChanges, snapshots_of
from storage.models import Image, Snapshot
from storage.services import captures, snapshots
from storage.status import of_snapshot


class SnapshotSerializer(serializers.Serializer):
    """What was on a volume at one moment."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    labels = LabelsField()
    status = serializers.SerializerMethodField()
    volume = ReferenceSerializer()
    size_gib = serializers.IntegerField(help_text="Of the volume then.")
    consistency = serializers.SerializerMethodField(
        help_text="`crash`: as after a power cut. `filesystem`: the guest's filesystems were at rest. Null: not yet."
    )
    protected = serializers.BooleanField(help_text="Whether it refuses to be deleted.")
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()

    def get_status(self, snapshot: Snapshot) -> str:
        return of_snapshot(snapshot)

    def get_consistency(self, snapshot: Snapshot) -> str | None:
        return snapshot.consistency or None


class SnapshotView(InProject):
    serializer = SnapshotSerializer

    def rows(self) -> QuerySet[Snapshot]:
        return snapshots_of(self.scope)


class Snapshots(SnapshotView, Collection):
    filters = {
        "name": Filter(serializers.CharField()),
        "volume": Filter(serializers.CharField(), "volume__name"),
    }


class OneSnapshot(SnapshotView, Item):
    forms = {"PATCH": VolumeChanges}

    def change(self, snapshot: Snapshot, body: dict[str, Any]) -> Snapshot:
        """A name, labels, and whether it is protected from being deleted."""
        return snapshots.update(snapshot=snapshot, actor=self.actor, changes=body)

    def remove(self, snapshot: Snapshot) -> None:
        """Volumes that were made from it keep what they have."""
        snapshots.delete(snapshot=snapshot, actor=self.actor)


class CreateImageOfSnapshot(CreateImage, SnapshotView):  # type: ignore[misc]
    """It has what the snapshot kept, whatever becomes of the volume. Answers with the image."""

    shows = SnapshotSerializer
    summaries = {"POST": "Make an image of a snapshot"}

    def create(self, row: Snapshot, said: dict[str, Any]) -> Image:
        return captures.of_snapshot(snapshot=row, actor=self.actor, **said)


urlpatterns = [
    path("projects/<str:project>/snapshots", Snapshots.as_view()),
    path("projects/<str:project>/snapshots/<str:ref>", OneSnapshot.as_view()),
    path("projects/<str:project>/snapshots/<str:ref>/create-image", CreateImageOfSnapshot.as_view()),
]
