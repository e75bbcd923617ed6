"""Exports: images as files that other programs open, for a day."""

from typing import Any

from django.db import transaction
from django.db.models.functions import Now
from django.utils.text import get_valid_filename

from cloud.events.services import SYSTEM, Actor, record
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.tenancy import quota
from cloud.tenancy.models import Project
from storage import traits, uefi
from storage.importing import EXPORT
from storage.models import Image, ImageExport
from storage.models.images import GIB
from storage.services.images import WrongState
from storage.workflows.exports import DeleteExport, ExportImage

EXTENSIONS = {ImageExport.Format.RAW: "img"}
AT_ONCE = 100
MIN_CPUS = 1  # of the machine in an OVA, where nothing is known of it


def begin(*, image: Image, project: Project, actor: Actor, format: str) -> ImageExport:
    """Have a host make a file of an image, for this project. Whoever may launch from an image may export it: a guest
    can read all of its disk. Raises WrongState, OverQuota.
    """
    image = Image.objects.select_for_update(of=("self",), no_key=True).get(pk=image.pk)
    if why := why_not(image, format):
        raise WrongState(why)
    disks = [file for file in image.files if file["role"] == "disk"]
    gib = -(-_estimate(disks, format) // GIB)
    quota.require(project, image_gib=gib)
    export = ImageExport.objects.create(
        project=project,
        name=file_name(image, format),
        format=format,
        image={"id": str(image.pk), "name": image.name, "version": image.version},
        sources=[*disks, *(_settings(image) if format == ImageExport.Format.OVA else ())],
        machine=_machine(image) if format == ImageExport.Format.OVA else None,
        size_gib=gib,
        created_by=actor.name,
    )
    record("storage.image_export.create", export, actor=actor, after={"image": image.name, "format": format})
    engine.start(ExportImage, export, actor=actor)
    return export


def _settings(image: Image) -> list[dict[str, Any]]:
    """What UEFI has kept for it: an OVA alone has a place for that."""
    return [file for file in image.files if file["role"] == uefi.ROLE]


def why_not(image: Image, format: str = ImageExport.Format.OVA) -> str:
    """Why an image cannot be exported to a format, in words; "" when it can."""
    disks = sum(file["role"] == "disk" for file in image.files)
    if not image.is_ready:
        return f"{image} is not ready."
    if image.is_cdrom:
        return f"{image} is an ISO, and has no disk. Other programs start from it as it came."
    if not disks:
        return f"{image} has no disk: it is a kernel with all that it needs in memory. No other program starts that."
    if disks > 1 and format != ImageExport.Format.OVA:
        return f"{image} has {disks} disks, and a file of this format has one. Export it as an OVA."
    return ""


def file_name(image: Image, format_: str) -> str:
    """A name for the file, from names that tenants chose."""
    name = "-".join(filter(None, (image.name, image.version)))
    extension = EXTENSIONS.get(format_, format_)  # type: ignore[call-overload]
    return f"{get_valid_filename(name)[:140]}.{extension}"


def _estimate(disks: list[dict[str, Any]], format_: str) -> int:
    """Bytes that the file may have. More than that is taken from the quota when it comes."""
    if format_ == ImageExport.Format.RAW:
        return sum(disk.get("virtual_bytes") or disk["size"] for disk in disks)
    return sum(disk["size"] for disk in disks)


def _machine(image: Image) -> dict[str, Any]:
    """What an OVA says of the machine: as it came, where it came as one."""
    found = image.found.get("machine") or {}
    return {
        "name": image.name,
        "cpus": found.get("cpus") or MIN_CPUS,
        "memory_mib": found.get("memory_mib") or image.min_memory_mib,
        "firmware": image.firmware or "bios",
        "nics": found.get("nics") or 1,
        "os": image.os,
        "image": {name: getattr(image, name) for name in traits.NAMES},
    }


def delete(*, export: ImageExport, actor: Actor) -> ImageExport:
    """Remove its file, or end making it."""
    engine.start(DeleteExport, export, actor=actor)
    record("storage.image_export.delete", export, actor=actor, before={"name": export.name})
    return export


def expire() -> int:
    """Delete those whose time is over. How many that were."""
    going = Operation.objects.filter(subject_type=EXPORT, finished_at=None).values("subject_id")
    due = ImageExport.objects.filter(expires_at__lt=Now()).exclude(pk__in=going).order_by("expires_at")[:AT_ONCE]
    for export in due:
        with transaction.atomic():
            delete(export=export, actor=SYSTEM)
    return len(due)
