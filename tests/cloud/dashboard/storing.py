"""What pages about volumes show: one of everything, and more of it."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.db.models.functions import Now

from cloud.events.services import Actor
from cloud.tenancy.models import Project, Quota
from storage.models import ImageExport, Snapshot, Volume
from storage.services import attaching, trash, volumes
from storage.services.attaching import Holder
from tests import factories
from tests.good_requests import finish
from tests.storage.good_requests import backup

ALICE = Actor("alice")


def with_snapshot(project: Project, **facts: Any) -> tuple[Volume, Snapshot]:
    volume = volumes.create(project=project, actor=ALICE, name=factories.name("data"), size_gib=1, **facts)
    snapshot = volumes.snapshot(volume=volume, actor=ALICE, name=factories.name("snap"))
    finish("volume")
    return Volume.objects.get(pk=volume.pk), Snapshot.objects.get(pk=snapshot.pk)


def export(project: Project) -> ImageExport:
    """One whose file can be downloaded."""
    return ImageExport.objects.create(
        project=project, name=factories.name("file"), format="vdi", sources=[], size_gib=1, created_by="alice",
        image={"id": str(uuid4()), "name": "guest", "version": "1"}, status=ImageExport.Status.READY,
        files=[{"sha256": "a" * 64, "size": 1000}], expires_at=Now() + timedelta(hours=1),
    )  # fmt: skip


def one_of_each(project: Project) -> dict[str, Any]:
    """Ids by their names in routes."""
    Quota.objects.filter(project=project).update(limits={})
    volume, snapshot = with_snapshot(project)
    return {"volume": volume.pk, "snapshot": snapshot.pk, "export": export(project).pk, "backup": backup(project).pk}


def more(project: Project, number: int) -> None:
    """One more of each; one more snapshot of the first volume; some are attached."""
    first = Volume.objects.filter(project=project, attachments=None, trashed_at=None).order_by("pk").first()
    volume, _ = with_snapshot(project, labels={"n": str(number)})
    if number % 2:
        attaching.attach(volume=volume, holder=Holder("instance", uuid4(), f"vm{number}"), actor=ALICE)
    export(project)
    backup(project)
    trashed, _ = with_snapshot(project)
    trash.discard(volume=trashed, actor=ALICE, cascade=True)
    volumes.snapshot(volume=first, actor=ALICE, name=factories.name("snap"))
    finish("volume")
