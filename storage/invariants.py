"""What must always hold of volumes and images: each has its room and its files, and nothing is kept for nobody."""

from collections.abc import Iterator
from functools import partial
from uuid import UUID

from django.db import transaction
from django.db.models import Case, Exists, F, OuterRef, When

from cloud.events.services import SYSTEM, record
from cloud.hosts.invariants import rows
from cloud.hosts.models import Allocation
from cloud.operations import engine
from cloud.operations.invariants import Breach, invariant
from cloud.operations.models import Operation
from storage import backing_up, files, hosting, uploads
from storage.backing_up import BACKUP
from storage.importing import EXPORT
from storage.models import Backup, Image, ImageExport, Volume, VolumeOnHost
from storage.trees import Tree
from storage.workflows import FlattenVolume, RestoreBackup
from storage.workflows.exports import ExportImage
from storage.workflows.images import DeleteImage, ImportImage


@invariant("I6", "Every volume has its disk space allocated on its host")
def volumes_have_room() -> Iterator[Breach]:
    room = Allocation.objects.filter(
        resource_type=hosting.VOLUME, resource_id=OuterRef("volume_id"), host=OuterRef("host"),
        disk_gib=OuterRef("disk_gib"),
    )  # fmt: skip
    copied = Operation.objects.filter(subject_id=OuterRef("volume_id"), finished_at=None)
    copied = copied.filter(kind__in=(RestoreBackup.kind, FlattenVolume.kind))  # then it has more for a while
    booked = Case(When(volume__active__pool=None, then=F("volume__size_gib")), default=0)
    short = VolumeOnHost.objects.annotate(disk_gib=booked).filter(~Exists(room)).exclude(Exists(copied))
    for row in short.select_related("volume", "host").order_by("pk"):
        words = f"{row.volume} is on {row.host}, but its {row.volume.size_gib} GiB are not allocated there"
        yield Breach(words, str(row.volume_id), repair=partial(_allocate, row.volume_id))


@transaction.atomic
def _allocate(volume_id: UUID) -> None:
    """Book its room again. The triggers refuse when there is none any more."""
    volume = Volume.objects.select_for_update().get(pk=volume_id)
    Allocation.of(hosting.VOLUME, volume_id).delete()
    for row in volume.on_hosts.select_related("host"):
        assert row.host is not None
        size = {"disk_gib": volume.disk_gib}
        Allocation.objects.create(resource_type=hosting.VOLUME, resource_id=volume_id, host=row.host, **size)
        record("storage.volume.allocate", volume, actor=SYSTEM, after={"host": str(row.host), **size})


@invariant("I14", "A volume is on the same host as its data")
def volumes_stand_on_their_layers() -> Iterator[Breach]:
    moves = Operation.objects.filter(subject_type="volume", subject_id=OuterRef("volume_id"), finished_at=None)
    elsewhere = VolumeOnHost.objects.filter(wanted=True).exclude(volume__active__host=F("host")).exclude(Exists(moves))
    for row in elsewhere.select_related("volume").order_by("pk"):
        advice = "The database was changed by hand: its files are where its host says they are."
        yield Breach(f"{row.volume} and its data are on different hosts", str(row.volume_id), advice=advice)
    at_work = Operation.objects.filter(subject_type="volume", subject_id=OuterRef("pk"), finished_at=None)
    for volume in Volume.objects.filter(~Exists(at_work), next__isnull=False).order_by("pk"):
        words = f"{volume} was to change to a new layer, but has no operation"
        yield Breach(words, str(volume.pk), repair=partial(_drop_next, volume.pk))


@transaction.atomic
def _drop_next(volume_id: UUID) -> None:
    volume = Volume.objects.select_for_update(of=("self",)).select_related("active").get(pk=volume_id)
    volume.next = None
    volume.save(update_fields=["next"])
    hosting.changed(volume)


@invariant("I14", "All stored data belongs to a volume or a snapshot")
def layers_are_needed() -> Iterator[Breach]:
    for tree, layers in rows(
        """
        WITH RECURSIVE needed (id) AS (
            (SELECT active_id FROM storage_volume
                UNION SELECT next_id FROM storage_volume WHERE next_id IS NOT NULL
                UNION SELECT layer_id FROM storage_snapshot)
            UNION SELECT l.parent_id FROM storage_layer l JOIN needed n ON n.id = l.id WHERE l.parent_id IS NOT NULL
        )
        SELECT l.tree, count(*) FROM storage_layer l
        WHERE l.id NOT IN (SELECT id FROM needed) AND NOT EXISTS (
            SELECT 1 FROM storage_volume v JOIN storage_layer a ON a.id = v.active_id
                LEFT JOIN storage_volumeonhost h ON h.volume_id = v.id
                LEFT JOIN operations_operation o
                    ON o.subject_type = 'volume' AND o.subject_id = v.id AND o.finished_at IS NULL
            WHERE a.tree = l.tree AND (o.id IS NOT NULL OR h.seen_generation <> h.generation))
        GROUP BY l.tree ORDER BY l.tree
        """
    ):
        words = f"{layers} layers of the tree {tree} are not needed any more"
        yield Breach(words, str(tree), repair=partial(_clear_away, tree))


@transaction.atomic
def _clear_away(tree_id: UUID) -> None:
    """Order the volumes of the tree again: with the answer the layers are forgotten that their host has removed."""
    volumes = Volume.objects.select_for_update(of=("self",)).select_related("active").filter(active__tree=tree_id)
    for volume in volumes.order_by("pk"):
        hosting.changed(volume)
    if not VolumeOnHost.objects.filter(volume__active__tree=tree_id).exists():
        Tree(tree_id).sweep()


@invariant("I15", "An image that is being created has an operation or an upload")
def images_get_on() -> Iterator[Breach]:
    live = Operation.objects.filter(subject_type="image", subject_id=OuterRef("pk"), finished_at=None)
    at_work = Image.objects.filter(status__in=(Image.Status.IMPORTING, Image.Status.DELETING))
    for image in at_work.exclude(Exists(live)):
        yield Breach(f"{image} is {image.status} and has no operation", str(image.pk), repair=partial(_retry, image))
    for image in Image.objects.filter(status=Image.Status.WAITING, upload=None):
        yield Breach(f"{image} waits for an upload that has no place to go to", str(image.pk), advice="Delete it.")


@invariant("I15", "An export that is being made has its work")
def exports_get_on() -> Iterator[Breach]:
    live = Operation.objects.filter(subject_type=EXPORT, subject_id=OuterRef("pk"), finished_at=None)
    for export in ImageExport.objects.filter(status=ImageExport.Status.MAKING).exclude(Exists(live)):
        words = f"{export} is being made and nothing is under way"
        yield Breach(words, str(export.pk), repair=partial(_export_again, export))


@invariant("I15", "A backup that is being made has its work")
def backups_get_on() -> Iterator[Breach]:
    live = Operation.objects.filter(subject_type=BACKUP, subject_id=OuterRef("pk"), finished_at=None)
    for backup in Backup.objects.filter(status=Backup.Status.MAKING).exclude(Exists(live)):
        words = f"{backup} is being made and nothing is under way"
        yield Breach(words, str(backup.pk), advice="Delete it, and back the volume up again.")


@invariant("I15", "Every block in the store of backups belongs to a backup, and none that one needs is missing")
def backups_have_their_blocks() -> Iterator[Breach]:
    for project, blocks in backing_up.unneeded().items():
        words = f"{blocks} blocks in the store of backups belong to no backup"
        yield Breach(words, str(project), repair=partial(backing_up.prune, project))
    if lost := backing_up.unowned():
        words = f"{len(lost)} files in the store of backups belong to no backup, e.g. {lost[0]}"
        yield Breach(words, "backup-store", repair=backing_up.sweep)
    for backup in Backup.objects.filter(status=Backup.Status.READY).order_by("pk"):
        if lacking := backing_up.lacking(backup):
            advice = "Back the volume up again, so that what it still has is stored again."
            yield Breach(f"{backup} lacks {lacking} blocks", str(backup.pk), advice=advice)


@transaction.atomic
def _export_again(export: ImageExport) -> None:
    engine.start(ExportImage, export, actor=SYSTEM)
    record("storage.image_export.retry", export, actor=SYSTEM, after={"image": export.image["name"]})


@transaction.atomic
def _retry(image: Image) -> None:
    work = DeleteImage if image.status == Image.Status.DELETING else ImportImage
    engine.start(work, image, actor=SYSTEM)
    record("storage.image.retry", image, actor=SYSTEM, after={"kind": work.kind})


@invariant("I15", "Every file in the image store belongs to an image")
def stored_files_are_owned() -> Iterator[Breach]:
    if stored := files.unneeded():
        words = f"{len(stored)} files in the image store belong to no image, e.g. {stored[0]}"
        yield Breach(words, "image-store", repair=files.sweep)
    if sent := uploads.unowned():
        words = f"{len(sent)} partial uploads belong to no image, e.g. {sent[0].name}"
        yield Breach(words, "image-uploads", repair=uploads.sweep)
