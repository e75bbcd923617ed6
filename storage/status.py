"""The status of a volume that a user sees: derived, one SQL CASE, first match wins."""

from django.db.models import Case, CharField, Exists, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce

from cloud.hosts.hosted import BROKEN, GONE
from cloud.operations.live import live_kind, live_operation
from storage.models import Attachment, Snapshot, Volume, VolumeOnHost
from storage.workflows import (
    CaptureVolume,
    CloneVolume,
    CopyVolume,
    CreateVolume,
    DeleteVolume,
    FlattenVolume,
    MoveAlong,
    MoveVolume,
    ResizeVolume,
    RestoreBackup,
    RetypeVolume,
    RevertVolume,
    SnapshotVolume,
    TakeOverVolume,
)

TRANSITIONAL = {
    CreateVolume.kind: "creating",
    ResizeVolume.kind: "resizing",
    RetypeVolume.kind: "retyping",
    SnapshotVolume.kind: "snapshotting",
    CloneVolume.kind: "cloning",
    CaptureVolume.kind: "creating_image",
    RevertVolume.kind: "reverting",
    RestoreBackup.kind: "restoring",
    CopyVolume.kind: "copying",
    FlattenVolume.kind: "flattening",
    MoveVolume.kind: "moving",
    MoveAlong.kind: "moving",
    TakeOverVolume.kind: "moving",
    DeleteVolume.kind: "deleting",
}
STATUSES = (*dict.fromkeys(TRANSITIONAL.values()), "available", "in_use", "error")
SNAPSHOT_STATUSES = ("creating", "ready")


def with_status(volumes: "QuerySet[Volume]") -> "QuerySet[Volume]":
    """Annotate `status`, `live_operation` (its JSON, or null) and `host_problem`: no further query a row."""
    here = VolumeOnHost.objects.filter(volume=OuterRef("pk"), host=OuterRef("active__host"))
    annotated: QuerySet[Volume] = volumes.annotate(
        live_operation=live_operation("volume"),
        live_kind=live_kind("volume"),
        host_problem=Coalesce(Subquery(here.values("seen_problem")[:1], output_field=CharField()), Value("")),
        is_broken=Exists(here.filter(seen__in=(BROKEN, GONE))),
        is_attached=Exists(Attachment.objects.filter(volume=OuterRef("pk"))),
    ).annotate(
        status=Case(
            *(When(live_kind=kind, then=Value(word)) for kind, word in TRANSITIONAL.items()),
            When(~Q(failed_reason="") | Q(is_broken=True), then=Value("error")),
            When(is_attached=True, then=Value("in_use")),
            default=Value("available"),
            output_field=CharField(),
        )
    )
    return annotated


def reason(volume: Volume) -> str:
    """Why the status is what it is, in words; empty when there is nothing to say. Of a volume with its status."""
    live = getattr(volume, "live_operation", None)
    if live:
        return str(live["reason"] or "")
    return volume.failed_reason or str(getattr(volume, "host_problem", ""))


def of_snapshot(snapshot: Snapshot) -> str:
    """One of SNAPSHOT_STATUSES."""
    return "ready" if snapshot.consistency else "creating"
