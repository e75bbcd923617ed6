"""Which host makes which image, export of one, or backup: chosen, ordered, listened to, and had cleared up again.

The work on a backup that is complete is a restore drill.
"""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from cloud.hosts import orders
from cloud.hosts.hosted import GONE, raise_generation
from cloud.hosts.models import Allocation, Host, HostPulse, Order
from cloud.hosts.resources import Offers
from cloud.hosts.room import offer_room
from cloud.hosts.silence import reachable_since
from cloud.operations import progress
from storage import trees
from storage.backing_up import BACKUP
from storage.models import Backup, Image, ImageExport, ImageImport, Layer, Snapshot
from storage.models.images import GIB, MIB

IMAGE = "image"  # as hosts call it
EXPORT = "image_export"  # as operations call it
OFFER = "images"  # what a host says that it can, so that it is given any
DRILL = "drill"  # so that it is given restore drills
WORDS = {
    "fetching": "a host fetches it",
    "unpacking": "a host unpacks it",
    "inspecting": "a host looks at what is in it",
    "converting": "a host converts it",
    "storing": "a host brings it into the store",
    "backing up": "its host brings into the store what is new",
    "restoring": "a host restores it, to be thrown away",
}
Made = Image | ImageExport | Backup
LOST_AFTER = timedelta(minutes=5)
GIB_OF_UNKNOWN = 10  # that a host should have for one whose size nobody knows yet


def offers(capabilities: Mapping[str, Any]) -> Offers:
    images = capabilities.get("images", {})
    exports = {export_offer(str(format_)) for format_ in images.get("export", ())}
    able = {OFFER} if images.get("import") else set()
    return Offers(frozenset({*able, *exports, *({DRILL} if images.get("drill") else ())}))


def export_offer(format_: str) -> str:
    """What a host says that it can, so that it is given exports to this format."""
    return f"export-{format_}"


def able_hosts(made: Made) -> QuerySet[Host]:
    """Those that could make it, or restore it in a drill, whether they have room for it or not."""
    offer = OFFER if isinstance(made, Image) else DRILL if isinstance(made, Backup) else export_offer(made.format)
    return Host.objects.filter(
        enabled=True, quarantined="", offers__contains=[offer], pulse__seen_at__gte=reachable_since()
    )


def choose(made: Made, *, without: Collection[UUID] = ()) -> ImageImport | None:
    """Give it to the host that makes the fewest, among those with room for it. None: there is none."""
    gib = room(made)
    able = able_hosts(made).filter(free_disk_gib__gte=gib)
    busy = Count("imageimports", filter=Q(imageimports__wanted=True))
    for host in able.exclude(pk__in=without).annotate(busy=busy).order_by("busy", "-free_disk_gib", "pk")[:5]:
        try:
            with transaction.atomic():
                row = ImageImport.objects.create(host=host, **making(made))
                Allocation.objects.create(resource_type=IMAGE, resource_id=row.pk, host=host, disk_gib=gib)
                return row
        except IntegrityError:  # somebody else took the room
            continue
    return None


def making(made: Made) -> dict[str, Any]:
    """The column of ImageImport that says what one makes."""
    columns = {Image: "image", ImageExport: "export", Backup: "backup"}
    return {columns[type(made)]: made}


def room(made: Made) -> int:
    """GiB that a host needs for a while: what comes, and what becomes of it."""
    if isinstance(made, Backup):
        return -(-made.data_bytes // GIB) + 1
    if isinstance(made, ImageExport):
        return int(-(-sum(file["size"] for file in made.sources) // GIB) + 2 * made.size_gib + 1)
    upload = getattr(made, "upload", None)
    if upload is None or not upload.received:
        return GIB_OF_UNKNOWN
    return int(2 * -(-upload.received // GIB) + 1)


def row_of(made: Made) -> ImageImport | None:
    """The work on it that counts, locked; None while no host has it."""
    rows = ImageImport.objects.select_for_update(of=("self",)).select_related("host")
    return rows.filter(**making(made), wanted=True).first()


def order(row: ImageImport) -> None:
    assert row.host is not None
    verb = "ensure_present" if row.wanted else "ensure_gone"
    orders.post(row.host, IMAGE, row.pk, verb, row.generation)


def is_lost(row: ImageImport) -> bool:
    """Whether its host has not been heard from for long. Another one can do the same work without harm."""
    return HostPulse.objects.filter(host=row.host, seen_at__lt=Now() - LOST_AFTER).exists()


def end(row: ImageImport) -> None:
    """Its host is to clear up. The row, which is locked, goes when it has."""
    row.wanted = False
    row.save(update_fields=["wanted"])
    raise_generation(row)
    order(row)


def end_all(made: Made) -> None:
    """End whatever hosts do for it."""
    rows = ImageImport.objects.select_for_update(of=("self",)).select_related("host")
    for row in rows.filter(**making(made), wanted=True):
        end(row)


def spec(row: ImageImport, verb: str) -> dict[str, Any]:
    """All that a host has to know to make an image, an export of one, or a backup."""
    made = row.made
    if made is None or verb == "ensure_gone":
        return {"id": str(row.pk)}
    return {
        "id": str(row.pk),
        "image": {
            "id": str(made.pk),
            "name": made.name,
            "project": {"id": str(made.project_id), "name": made.project.name} if made.project else None,
        },
        "limits": {"virtual_bytes": settings.IMAGE_MAX_DISK_GIB * GIB},
        **_wanted_of(made),
    }


def _wanted_of(made: Made) -> dict[str, Any]:
    if isinstance(made, Image):
        return _of_import(made)
    if isinstance(made, ImageExport):
        return _of_export(made)
    return _of_drill(made) if made.is_complete else _of_backup(made)


def _of_import(image: Image) -> dict[str, Any]:
    declared = image.source.get("format")
    return {"source": _source(image), "declared_format": declared, "result": {"format": "qcow2"}}


def _of_export(export: ImageExport) -> dict[str, Any]:
    source = {"kind": "files", "files": export.sources}
    return {"source": source, "result": {"format": export.format}, "machine": export.machine}


def _of_backup(backup: Backup) -> dict[str, Any]:
    volume = backup.volume
    if kept := backup.of.get("layer"):
        top = Layer.objects.filter(pk=kept).first()
        chain = trees.Tree(top.tree).chain(top.pk) if top and not top.rbd else []
        source = {
            "kind": "volume", "volume": backup.of["id"], "holder": None, "sealed": True,
            "layers": [str(layer.pk) for layer in chain] or [kept], "base": chain[0].base if chain else None,
        }  # fmt: skip
        return {"source": source | _in_ceph(top), "size_gib": backup.size_gib}
    chain = trees.tree_of(volume).chain(volume.active_id) if volume else []
    held = volume.attachments.first() if volume else None
    source = {
        "kind": "volume",
        # Without the volume its host says that a part is not there any more.
        "volume": backup.of["id"],
        "holder": {"type": held.holder_type, "id": str(held.holder_id)} if held else None,
        "layers": [str(layer.pk) for layer in chain] or [backup.of["id"]],
        "base": chain[0].base if chain else None,
    }
    return {"source": source, "size_gib": backup.size_gib}


def _in_ceph(layer: Layer | None) -> dict[str, Any]:
    """Where a host reads a layer that is no file."""
    return {"ceph": str(layer.pool), "rbd": str(layer.rbd)} if layer and layer.rbd else {}


def _of_drill(backup: Backup) -> dict[str, Any]:
    return {"source": {"kind": "backup", "size_gib": backup.size_gib}}


def may_read(host: Host, sha256: str) -> bool:
    """Whether a host makes an export of an image that has this file."""
    made = ImageExport.objects.filter(imports__host=host, imports__wanted=True)
    return made.filter(sources__contains=[{"sha256": sha256}]).exists()


def is_captured(made: Made) -> bool:
    """Whether it is made of what only one host has."""
    if isinstance(made, Image):
        return made.source.get("kind") in ("instance", "snapshot", "volume")
    return isinstance(made, Backup) and not made.is_complete


def _source(image: Image) -> dict[str, Any]:
    if image.source["kind"] in ("snapshot", "volume"):
        top = _top_of(image)
        booted = image.source.get("booted", {})
        if top and top.rbd:
            return {"kind": "layers", "layers": [str(top.pk)], "base": None, **_in_ceph(top), **booted}
        chain = trees.Tree(top.tree).chain(top.pk) if top else []
        # Where they are gone its host says that a part is not there any more.
        layers = [str(layer.pk) for layer in chain] or [image.source["id"]]
        base = chain[0].base if chain else None
        return {"kind": "layers", "layers": layers, "base": base, **booted}
    if is_captured(image):
        return {"kind": "machine", "type": image.source["kind"], "machine": image.source["id"]}
    if image.source["kind"] == "url":
        limits = {"max_bytes": settings.IMAGE_MAX_GIB * GIB, "max_seconds": settings.IMAGE_FETCH_SECONDS}
        wish = {"kind": "url", "url": image.source["url"], "sha256": image.source.get("sha256")}
        return {**wish, **settings.IMAGE_URLS, **limits}
    upload = image.upload
    return {"kind": "upload", "sha256": upload.sha256 or None, "size": upload.size}


def _top_of(image: Image) -> Layer | None:
    """The layer that an image is made of, with all that it lies on. None: it is not there any more."""
    if image.source["kind"] == "volume":
        return Layer.objects.filter(pk=image.source["layer"]).first()
    snapshot = Snapshot.objects.select_related("layer").filter(pk=image.source["id"]).first()
    return snapshot.layer if snapshot else None


def noticed(row: ImageImport, before: str) -> None:
    """A report has been written: one that nobody wants any more goes when its host has cleared up."""
    if not row.wanted and row.has_been_seen(GONE):
        forget(row)


def forget(row: ImageImport) -> None:
    Allocation.of(IMAGE, row.pk).delete()
    offer_room()
    row.delete()


def note_progress(row: ImageImport, *, phase: str, done: float, of: int | None, unit: str) -> None:
    """Its host has got on: tell those who look at the image's operation."""
    if unit == "bytes":
        done, of, unit = done / MIB, of and -(-of // MIB), "MiB"
    elif unit == "percent":
        of, unit = 100, "%"
    if row.made is not None:
        subject = IMAGE if row.image_id else EXPORT if row.export_id else BACKUP
        progress.note(subject, row.made.pk, reason=WORDS.get(phase, phase), done=int(done), of=of, unit=unit)


def reconcile() -> None:
    """What hosts should have cleared up, and have no order for, is ordered again."""
    ordered = Order.objects.filter(resource_id=OuterRef("pk"), host=OuterRef("host"), answered_at=None)
    from_hosts = Host.objects.filter(pulse__seen_at__gte=reachable_since())
    stale = ImageImport.objects.filter(wanted=False, host__in=from_hosts).exclude(Exists(ordered))
    for key in stale.values_list("pk", flat=True)[:100]:
        with transaction.atomic():
            row = ImageImport.objects.select_for_update(of=("self",)).select_related("host").filter(pk=key).first()
            if row is None:
                continue
            if row.has_been_seen(GONE):
                forget(row)
            else:
                raise_generation(row)
                order(row)
