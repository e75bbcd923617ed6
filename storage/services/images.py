"""Images: taken in by their declared hash, shown to those who may launch from them."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet

from cloud.events.services import Actor, record
from cloud.tenancy.models import Project
from storage.models import Image


def images_of(project: Project) -> "QuerySet[Image]":
    """The project's own images, and the cloud's public ones."""
    return Image.objects.filter(Q(project=project) | Q(project=None))


def keep_file(source: Path, sha256: str) -> None:
    """Copy a file into the image store under its hash, whole or not at all. Raises ValueError for other content."""
    settings.IMAGE_STORE.mkdir(parents=True, exist_ok=True)
    target = settings.IMAGE_STORE / sha256
    if target.exists():
        return
    with source.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(f"{source.name} has the SHA-256 {found}, not the declared {sha256}")
    partial = target.with_suffix(f".{os.getpid()}")
    shutil.copyfile(source, partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.rename(target)


@transaction.atomic
def publish_image(description: Mapping[str, Any], *, actor: Actor) -> Image:
    """Make or update a public image from its description (image.json). Instances keep the files they began with."""
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
        "kernel_command_line": description.get("kernel_command_line", ""),
        "files": files,
    }
    image, created = Image.objects.get_or_create(project=None, name=description["name"], defaults=facts)
    before = {name: getattr(image, name) for name in facts}
    if created or before != facts:
        Image.objects.filter(pk=image.pk).update(**facts)
        image.refresh_from_db()
        verb = "create" if created else "update"
        record(f"storage.image.{verb}", image, actor=actor, before=None if created else before, after=facts)
    return image
