"""What counts in a project's quota; the cloud's own images are nobody's, and what failed holds nothing."""

from uuid import UUID

from django.db.models import QuerySet

from cloud.tenancy import quota
from storage.models import Backup, BackupSpace, Image, ImageExport, Snapshot, Volume


def _there(project_id: UUID) -> "QuerySet[Volume]":
    return Volume.objects.filter(project_id=project_id, failed_reason="")


def _in_use(project_id: UUID) -> "QuerySet[Volume]":
    """Not in the trash, which counts in space only."""
    return _there(project_id).filter(trashed_at=None)


quota.register("images", lambda project_id: Image.objects.filter(project_id=project_id, trashed_at=None))
quota.register(
    "image_gib",
    lambda project_id: Image.objects.filter(project_id=project_id),
    lambda project_id: ImageExport.objects.filter(project_id=project_id),
    sum_of="size_gib",
)
quota.register("volumes", _in_use)
quota.register("volume_gib", _there, sum_of="size_gib")
quota.register("snapshots", lambda project_id: Snapshot.objects.filter(project_id=project_id, volume__trashed_at=None))
quota.register(
    "backups", lambda project_id: Backup.objects.filter(project_id=project_id).exclude(status=Backup.Status.FAILED)
)
quota.register("backup_gib", lambda project_id: BackupSpace.objects.filter(project_id=project_id), sum_of="gib")
