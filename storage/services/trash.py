"""The trash for volumes, which take their snapshots along, and for images. See cloud/trash.py."""

from django.conf import settings
from django.db.models.functions import Now

from cloud import trash
from cloud.events.services import Actor, record
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.tenancy import quota
from storage import prices
from storage.models import Image, Volume
from storage.services import images, policies, volumes
from storage.workflows import DeleteVolume
from storage.workflows.images import DeleteImage


def discard(*, volume: Volume, actor: Actor, cascade: bool = False, purge: bool = False) -> Volume:
    """Put a volume into the trash, with `cascade` also one that has snapshots; with `purge`, or without a trash, delete
    it for good.

    What is under way with it goes on. Raises InUse, Protected.
    """
    engine.lock("volume", volume.pk)
    volume = volumes.locked(volume, failed=True)
    if purge or not trash.is_used() or volume.failed_reason:
        volumes.delete(volume=volume, actor=actor, cascade=cascade)
        return volume
    volumes.require_deletable(volume, actor=actor, cascade=cascade)
    prices.settle(volume)
    volume.trashed_at = Now()
    volume.save(update_fields=["trashed_at"])
    before = {"name": volume.name, "size_gib": volume.size_gib, "trash_hours": settings.TRASH_HOURS}
    record("storage.volume.delete", volume, actor=actor, before=before)
    return volume


def restore(*, volume: Volume, actor: Actor, name: str = "") -> Volume:
    """Take a volume out of the trash, with its snapshots; as `name` if another one is called so now.

    Raises OverQuota, Conflict.
    """
    quota.require(volume.project_id, volumes=1, snapshots=volume.snapshots.count())
    volume = volumes.locked(volume, failed=True)
    trash.require_in_trash(volume)
    prices.settle(volume)
    volume.trashed_at, volume.name = None, name or volume.name
    volume.save(update_fields=["trashed_at", "name"])
    policies.wake(volume)
    record("storage.volume.restore", volume, actor=actor, after={"name": volume.name})
    return volume


def purge(*, volume: Volume, actor: Actor) -> Operation:
    """Delete a volume that is in the trash for good. Raises Conflict."""
    live = engine.lock("volume", volume.pk)
    if live and live.kind == DeleteVolume.kind:
        return live
    volume = volumes.locked(volume, failed=True)
    trash.require_in_trash(volume)
    return volumes.delete(volume=volume, actor=actor, cascade=True)


def discard_image(*, image: Image, actor: Actor, purge: bool = False) -> Image:
    """Put an image into the trash; with `purge`, without a trash, or when it is not made yet, delete it for good.

    Nobody launches from it then. Raises Protected, InUse.
    """
    if purge or not trash.is_used() or image.status != Image.Status.READY:
        return images.delete(image=image, actor=actor)
    image = images.lock_to_delete(image)
    image.trashed_at = Now()
    image.save(update_fields=["trashed_at"])
    before = {"name": image.name, "version": image.version, "trash_hours": settings.TRASH_HOURS}
    record("storage.image.delete", image, actor=actor, before=before)
    return image


def restore_image(*, image: Image, actor: Actor, name: str = "") -> Image:
    """Take an image out of the trash, as `name` if another one is called so now. Raises OverQuota, Conflict."""
    if image.project_id is not None:
        quota.require(image.project_id, images=1)
    image = Image.objects.select_for_update().get(pk=image.pk)
    trash.require_in_trash(image)
    image.trashed_at, image.name = None, name or image.name
    image.save(update_fields=["trashed_at", "name"])
    record("storage.image.restore", image, actor=actor, after={"name": image.name})
    return image


def purge_image(*, image: Image, actor: Actor) -> Image:
    """Delete an image that is in the trash for good. Raises Conflict."""
    live = engine.lock("image", image.pk)
    if live and live.kind == DeleteImage.kind:
        return image
    trash.require_in_trash(Image.objects.select_for_update().get(pk=image.pk))
    return images.delete(image=image, actor=actor)


trash.register(
    trash.Kind(
        type="image",
        rows=lambda: Image.objects.select_related("project"),
        restore=lambda row, actor, name: restore_image(image=row, actor=actor, name=name),
        purge=lambda row, actor: purge_image(image=row, actor=actor),
        about=lambda row: " ".join(filter(None, (row.version, f"{row.size_gib} GiB" if row.size_gib else ""))),
        deleting=DeleteImage.kind,
        unique_with=("version",),
    )
)
trash.register(
    trash.Kind(
        type="volume",
        rows=lambda: Volume.objects.select_related("project", "active__host"),
        restore=lambda row, actor, name: restore(volume=row, actor=actor, name=name),
        purge=lambda row, actor: purge(volume=row, actor=actor),
        about=lambda row: f"{row.size_gib} GiB",
        deleting=DeleteVolume.kind,
    )
)
