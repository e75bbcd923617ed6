"""Images: taken in by their declared hash, shown to those who may launch from them."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.db import transaction
from django.db.models import QuerySet

from cloud.api.fields import called
from cloud.events.services import Actor, record
from cloud.tenancy.models import Project
from storage.models import Image
from storage.store import StoreAway, incoming, store

BUILT = {"kind": "built"}  # by the operator, out of packages


def images_of(project: Project) -> "QuerySet[Image]":
    """What the project may launch from: its own images, public ones, and those shared with it; the best first."""
    return Image.objects.of(project).by_preference(project)


_called = called(images_of)
_version_called = called(lambda project, version: images_of(project).filter(version=version))


def image_called(reference: str, project: Project) -> Image | None:
    """What an id, `name`, or `name:version` means: the first of `images_of` that is called so."""
    name, colon, version = reference.partition(":")
    if "\x00" in version:
        return None
    if not colon or version == "latest":
        return _called(name, project.pk)
    return _version_called(name, project.pk, version)


def choices_of(project: Project) -> list[Image]:
    """What the project can launch from now, by name. Each has its `reference`: its name, unless that means another."""
    offered = [image for image in images_of(project) if image.is_ready]
    named: dict[str, Image] = {}
    for image in offered:
        meant = named.setdefault(image.name, image)
        image.reference = image.name if meant is image else str(image.pk)
    return sorted(offered, key=lambda image: image.name)


def keep_file(source: Path, sha256: str) -> None:
    """Copy a file into the image store under its hash, whole or not at all. Raises ValueError for other content."""
    with suppress(StoreAway):
        if store().has(sha256):
            return
    with source.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(f"{source.name} has the SHA-256 {found}, not the declared {sha256}")
    incoming().mkdir(parents=True, exist_ok=True)
    partial = incoming() / f"{uuid4()}.image"
    try:
        shutil.copyfile(source, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        store().keep(partial, sha256)
    finally:
        partial.unlink(missing_ok=True)


@transaction.atomic
def publish_image(description: Mapping[str, Any], *, actor: Actor) -> Image:
    """Make or update an image of the cloud from its description (image.json). Instances keep the files they have."""
    files = [{key: file.get(key) for key in ("role", "sha256", "size", "format")} for file in description["files"]]
    facts = {
        "description": description.get("description", ""),
        "os": description.get("os", "linux"),
        "version": description.get("version", ""),
        "architecture": description["architecture"],
        "hypervisors": description["hypervisors"],
        "min_disk_gib": description.get("min_disk_gib", 1),
        "min_memory_mib": description.get("min_memory_mib", 64),
        "default_user": description.get("default_user", "root"),
        "cloud_init": description.get("cloud_init", False),
        "kernel_command_line": description.get("kernel_command_line", ""),
        "source": BUILT,
        "visibility": Image.Visibility.PUBLIC,
        "files": files,
    }
    known = Image.objects.filter(project=None, name=description["name"], source__in=[{}, BUILT], trashed_at=None)
    image = known.order_by("-created_at").first()
    created = image is None
    image = image or Image.objects.create(name=description["name"], **facts)
    before = {name: getattr(image, name) for name in facts}
    if created or before != facts:
        Image.objects.filter(pk=image.pk).update(**facts)
        image.refresh_from_db()
        verb = "create" if created else "update"
        record(f"storage.image.{verb}", image, actor=actor, before=None if created else before, after=facts)
    return image
