"""/api/v1/projects/{project}/volumes"""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cloud.api.fields import Flag, Integer, LabelsField, NameField, ReferenceField
from cloud.api.pagination import Filter
from cloud.api.scope import Scope
from cloud.api.serializers import Body, ReferenceSerializer
from cloud.api.trash import PURGE, TRASHED, Purge, Restore, WithTrash
from cloud.api.views import Collection, InProject, Item, Verb
from cloud.hosts.models import Host
from cloud.operations.api import OperationSerializer
from storage.api.captures import CreateImage
from storage.api.images import visible
from storage.api.volume_types import offered
from storage.models import Image, Snapshot, Volume
from storage.models.volumes import MAX_SIZE_GIB
from storage.services import captures, moving, retyping, taking, trash, volumes
from storage.status import STATUSES, reason, with_status
from storage.workflows import TakeOverVolume

CASCADE = serializers.BooleanField(help_text="Also delete its snapshots. A dry run shows which these are.")


def volumes_of(scope: Scope) -> QuerySet[Volume]:
    """Those that are not in the trash."""
    return every_volume_of(scope).filter(trashed_at=None)


def every_volume_of(scope: Scope) -> QuerySet[Volume]:
    return Volume.objects.filter(project_id=scope.project_id).select_related(
        "active__host", "project", "backup_policy", "type"
    )


def snapshots_of(scope: Scope) -> QuerySet[Snapshot]:
    own = Snapshot.objects.filter(project_id=scope.project_id, volume__trashed_at=None)
    return own.select_related("layer__host", "volume__active__host")


class SourceSerializer(serializers.Serializer):
    """What it was made from, as it was called then."""

    type = serializers.ChoiceField(("image", "snapshot", "volume", "backup"))
    id = serializers.UUIDField()
    name = serializers.CharField()


class AttachmentSerializer(serializers.Serializer):
    """What it is attached to, and as which of its disks."""

    type = serializers.CharField(source="holder_type")
    id = serializers.UUIDField(source="holder_id")
    name = serializers.CharField(source="holder_name")
    slot = serializers.IntegerField(help_text="1: /dev/vdb, 2: /dev/vdc …; 0: it boots from this one.")
    read_only = serializers.BooleanField()  # type: ignore[assignment]
    delete_with_holder = serializers.BooleanField(help_text="Whether the volume is deleted with it.")


class BackupPolicySerializer(serializers.Serializer):
    """When it is backed up by itself, and which of these backups stay."""

    schedule = serializers.CharField()
    time_zone = serializers.CharField()
    keep_last = serializers.IntegerField()
    keep_hourly = serializers.IntegerField()
    keep_daily = serializers.IntegerField()
    keep_weekly = serializers.IntegerField()
    keep_monthly = serializers.IntegerField()
    enabled = serializers.BooleanField()
    next_at = serializers.DateTimeField(allow_null=True, help_text="When the next one is due.")
    problem = serializers.CharField(help_text="Why the one that is due could not begin; it is tried again each minute.")


class VolumeSerializer(serializers.Serializer):
    """A disk that outlives the instances that it is attached to."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    labels = LabelsField()
    status = serializers.ChoiceField(STATUSES)
    status_reason = serializers.SerializerMethodField()
    size_gib = serializers.IntegerField()
    type = ReferenceSerializer(help_text="Its type, which says how fast it is.")
    price_per_hour = serializers.DecimalField(
        max_digits=12, decimal_places=6, help_text="Of all of it, at the price that its type had when it got that."
    )
    bootable = serializers.BooleanField()
    serial = serializers.CharField(help_text="In the guest it is /dev/disk/by-id/virtio-<serial>.")
    made_from = SourceSerializer(
        source="source", allow_null=True, help_text="What it was made from; null: it began empty."
    )
    attached_to = serializers.SerializerMethodField(help_text="Null: to nothing. Of several readers the first.")
    attachments = AttachmentSerializer(source="held", many=True, help_text="All that it is attached to.")
    backup_policy = serializers.SerializerMethodField(help_text="Null: it is not backed up by itself.")
    protected = serializers.BooleanField(help_text="Whether it refuses to be deleted.")
    trashed_at = serializers.DateTimeField(allow_null=True, help_text="Since when it is in the trash.")
    operation = OperationSerializer(source="live_operation", allow_null=True, help_text="What is under way.")
    host = serializers.SerializerMethodField(help_text="Where it is; for admins of the cloud, otherwise null.")
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()

    def get_status_reason(self, volume: Volume) -> str:
        return reason(volume)

    @extend_schema_field(AttachmentSerializer(allow_null=True))
    def get_attached_to(self, volume: Volume) -> Any:
        return AttachmentSerializer(volume.held[0]).data if volume.held else None

    @extend_schema_field(BackupPolicySerializer(allow_null=True))
    def get_backup_policy(self, volume: Volume) -> Any:
        policy = getattr(volume, "backup_policy", None)
        return BackupPolicySerializer(policy).data if policy else None

    @extend_schema_field(ReferenceSerializer(allow_null=True))
    def get_host(self, volume: Volume) -> dict[str, str] | None:
        host = volume.active.host
        shows = host is not None and self.context["scope"].is_cloud_admin
        return {"id": str(host.pk), "name": host.name} if shows and host else None


class VolumeChanges(Body):
    name = NameField(required=False)
    labels = LabelsField(required=False)
    protected = Flag(required=False)


class SizeField(Integer):
    """Of a volume, in GiB."""

    def __init__(self, **options: Any):
        super().__init__(min_value=1, max_value=MAX_SIZE_GIB, **options)


class VolumeForm(Body):
    """Empty, or made from one thing. What is left out of size and type is as it is there; else the default type."""

    name = NameField()
    size_gib = SizeField(required=False)
    type = ReferenceField(offered, required=False)
    image = ReferenceField(visible, required=False)
    snapshot = ReferenceField(snapshots_of, required=False)
    volume = ReferenceField(volumes_of, required=False)
    labels = LabelsField(required=False)
    protected = Flag(required=False)

    def validate(self, body: dict[str, Any]) -> dict[str, Any]:
        if len(body.keys() & {"image", "snapshot", "volume"}) > 1:
            raise serializers.ValidationError("Give an image, a snapshot or a volume, or none of them.")
        return body


class ResizeForm(Body):
    size_gib = SizeField()


class SnapshotForm(Body):
    name = NameField()
    labels = LabelsField(required=False)
    protected = Flag(required=False)


class CloneVolumeForm(SnapshotForm):
    size_gib = SizeField(required=False)
    type = ReferenceField(offered, required=False)


class MoveForm(Body):
    host = ReferenceField(
        lambda scope: Host.objects.all() if scope.is_cloud_admin else Host.objects.none(),
        required=False,
        help_text="Left out: the one with most room.",
    )
    take_over = Flag(
        required=False,
        help_text="From a host that is not heard of, what is in shared folders or in Ceph: see Taking over in "
        "docs/operating.md.",
    )


class RetypeForm(Body):
    type = ReferenceField(offered)


class RevertForm(Body):
    snapshot = ReferenceField(snapshots_of)


class VolumeView(WithTrash, InProject):
    serializer = VolumeSerializer

    def every(self) -> QuerySet[Volume]:
        return with_status(every_volume_of(self.scope)).prefetch_related("attachments")


class Volumes(VolumeView, Collection):
    forms = {"POST": VolumeForm}
    filters = {
        "name": Filter(serializers.CharField()),
        "status": Filter(serializers.ChoiceField(STATUSES)),
        **TRASHED,
        "attached_to": Filter(
            serializers.UUIDField(help_text="The id of what it is attached to."), "attachments__holder_id"
        ),
    }

    def create(self, body: dict[str, Any]) -> Volume:
        """It is written nowhere before it is first attached, unless it is made from a volume or a snapshot."""
        return volumes.create(project=self.project, actor=self.actor, **body)


class OneVolume(VolumeView, Item):
    forms = {"PATCH": VolumeChanges}
    parameters = {"DELETE": {"cascade": CASCADE, **PURGE}}

    def change(self, volume: Volume, body: dict[str, Any]) -> Volume:
        """A name, labels, and whether it is protected from being deleted."""
        return volumes.update(volume=volume, actor=self.actor, changes=body)

    def remove(self, volume: Volume) -> dict[str, Any]:
        """To the trash, from where it comes back for a day. Refused while it is attached, or has snapshots; `cascade`
        takes those along.
        """
        trash.discard(volume=volume, actor=self.actor, **self.how())
        return self.show(self.every().get(pk=volume.pk))


class RestoreVolume(Restore, VolumeView):
    kind = "volume"


class PurgeVolume(Purge, VolumeView):
    kind = "volume"


class Resize(VolumeView, Verb):
    forms = {"POST": ResizeForm}

    def act(self, volume: Volume, body: dict[str, Any]) -> Volume:
        """Grow it, also while a guest uses it. Growing the filesystem is the guest's part."""
        volumes.resize(volume=volume, actor=self.actor, **body)
        return volume


class Retype(VolumeView, Verb):
    forms = {"POST": RetypeForm}

    def act(self, volume: Volume, body: dict[str, Any]) -> Volume:
        """Another type: its limits and its price hold from now on, also while a guest uses the volume."""
        retyping.retype(volume=volume, actor=self.actor, **body)
        return volume


class Move(VolumeView, Verb):
    forms = {"POST": MoveForm}
    needs_admin = {"POST": True}

    def act(self, volume: Volume, body: dict[str, Any]) -> Volume:
        """To another host, by copying. It must be attached to nothing; what shares data with it, as its clones do,
        moves along. It is where it was until all of it has been copied.

        With `take_over` it is taken from a host that is not heard of, if it is in a shared folder or in Ceph. What it
        is attached to loses it, also should that run in truth; then what was not written yet is lost.
        """
        taking.move_or_take_over(volume=volume, actor=self.actor, **body)
        return volume

    def plan(self, body: dict[str, Any]) -> dict[str, Any]:
        """From where to where, what moves along, and about how many bytes (null: its host has not said)."""
        found = moving.planned("volume", UUID(body["id"]))
        return {"move": found or taking.planned(TakeOverVolume.kind, "volume", UUID(body["id"]))}


class TakeSnapshot(VolumeView, Verb):
    forms = {"POST": SnapshotForm}

    def act(self, volume: Volume, body: dict[str, Any]) -> Volume:
        """Keep what is on it now, also while a guest uses it. It takes as long whatever the size."""
        volumes.snapshot(volume=volume, actor=self.actor, **body)
        return volume


class Clone(VolumeView, Verb):
    forms = {"POST": CloneVolumeForm}

    def act(self, volume: Volume, body: dict[str, Any]) -> Volume:
        """Another volume with what is on this one now. Both share that until one of them writes. Answers with it."""
        return volumes.clone(volume=volume, actor=self.actor, **body)


class CreateImageOfVolume(CreateImage, VolumeView):  # type: ignore[misc]
    """It has what is on the volume now, also while a guest uses it. Answers with the image."""

    shows = VolumeSerializer
    summaries = {"POST": "Make an image of a volume"}

    def create(self, row: Volume, said: dict[str, Any]) -> Image:
        return captures.of_volume(volume=row, actor=self.actor, **said)


class Revert(VolumeView, Verb):
    forms = {"POST": RevertForm}

    def act(self, volume: Volume, body: dict[str, Any]) -> Volume:
        """Back to a snapshot of it. What was written since is lost."""
        volumes.revert(volume=volume, actor=self.actor, **body)
        return volume


urlpatterns = [
    path("projects/<str:project>/volumes", Volumes.as_view()),
    path("projects/<str:project>/volumes/<str:ref>", OneVolume.as_view()),
    path("projects/<str:project>/volumes/<str:ref>/resize", Resize.as_view()),
    path("projects/<str:project>/volumes/<str:ref>/retype", Retype.as_view()),
    path("projects/<str:project>/volumes/<str:ref>/move", Move.as_view()),
    path("projects/<str:project>/volumes/<str:ref>/snapshot", TakeSnapshot.as_view()),
    path("projects/<str:project>/volumes/<str:ref>/clone", Clone.as_view()),
    path("projects/<str:project>/volumes/<str:ref>/create-image", CreateImageOfVolume.as_view()),
    path("projects/<str:project>/volumes/<str:ref>/revert", Revert.as_view()),
    path("projects/<str:project>/volumes/<str:ref>/restore", RestoreVolume.as_view()),
    path("projects/<str:project>/volumes/<str:ref>/purge", PurgeVolume.as_view()),
]
