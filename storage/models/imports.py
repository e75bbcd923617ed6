"""How images come in and go out: what owners upload, what they download, and the work of the hosts on disks."""

import uuid
from pathlib import Path
from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from cloud.hosts.hosted import Hosted
from cloud.tenancy.models import Project
from storage.models.backups import Backup
from storage.models.hosted import PRESENT
from storage.models.images import Image
from storage.store import incoming


class Upload(models.Model):
    """What an image is to be made of, sent by its owner in one or several requests. It goes when the image is made."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    image = models.OneToOneField(Image, on_delete=models.CASCADE, related_name="upload")
    size = models.PositiveBigIntegerField(null=True)  # of all of it; null: its owner has not said
    sha256 = models.CharField(max_length=64, blank=True)  # as its owner says; the host that converts it looks
    expires_at = models.DateTimeField()  # unless all of it is there
    completed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return str(self.image)

    @property
    def path(self) -> Path:
        return incoming() / str(self.pk)

    @property
    def received(self) -> int:
        """Bytes that are here: those that survive whatever dies."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


class ImageExport(models.Model):
    """An image as a file of another format, for a project to download. It outlives the image, and ends by itself.

    `image`: {"id", "name", "version"} as it was called. `sources`: the image's disks, as they were.
    """

    class Format(models.TextChoices):
        QCOW2 = "qcow2"
        RAW = "raw"
        VDI = "vdi"
        VMDK = "vmdk"
        VHDX = "vhdx"
        OVA = "ova"

    class Status(models.TextChoices):
        MAKING = "making"
        READY = "ready"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=160)  # of the file
    format = models.CharField(max_length=5, choices=Format.choices)
    image = models.JSONField()
    sources = models.JSONField()  # [{"role", "sha256", "size", "format", "virtual_bytes"}]
    machine = models.JSONField(null=True)  # what an OVA says of it
    status = models.CharField(max_length=6, choices=Status.choices, default=Status.MAKING)
    reason = models.TextField(blank=True)  # why it failed
    files = models.JSONField(default=list)  # [{"sha256", "size"}]: the one that is there to be downloaded
    size_gib = models.PositiveIntegerField()  # that it counts in its project's quota
    expires_at = models.DateTimeField(null=True)  # when it ends; null: while it is made
    created_by = models.CharField(max_length=80)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(status="making") | Q(expires_at__isnull=False), name="image_export_ends_once_it_is_made"
            ),
            models.CheckConstraint(
                condition=Q(status__in=["making", "ready", "failed"]), name="image_export_status_is_known"
            ),
        ]
        indexes = [models.Index(fields=["project", "created_at"], name="image_export_by_project")]

    def __str__(self) -> str:
        return self.name

    @property
    def is_ready(self) -> bool:
        return self.status == ImageExport.Status.READY

    @property
    def file(self) -> dict[str, Any] | None:
        """{"sha256", "size"}; None until it is ready."""
        return self.files[0] if self.is_ready else None


class ImageImport(Hosted):
    """An image, an export of one, or a backup in the making on a host. It goes when its host has cleared up."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    image = models.ForeignKey(Image, null=True, on_delete=models.SET_NULL, related_name="imports")
    export = models.ForeignKey(ImageExport, null=True, on_delete=models.SET_NULL, related_name="imports")
    backup = models.ForeignKey(Backup, null=True, on_delete=models.SET_NULL, related_name="imports")
    wanted = models.BooleanField(default=True)  # false: its host is to clear up, and then the row goes
    files = models.JSONField(default=list)  # [{"index", "sha256", "size"}]: what has come of its result
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["image", "host"], name="image_is_once_in_work_on_a_host"),
            models.CheckConstraint(condition=Q(host__isnull=False), name="image_import_has_a_host"),
            models.UniqueConstraint(fields=["export", "host"], name="export_is_once_in_work_on_a_host"),
            models.UniqueConstraint(fields=["backup", "host"], name="backup_is_once_in_work_on_a_host"),
            models.CheckConstraint(
                condition=Q(image=None, export=None) | Q(image=None, backup=None) | Q(export=None, backup=None),
                name="image_import_makes_one_thing",
            ),
            models.CheckConstraint(
                condition=Q(wanted=False) | Q(image__isnull=False) | Q(export__isnull=False) | Q(backup__isnull=False),
                name="wanted_import_makes_something",
            ),
        ]

    def __str__(self) -> str:
        return str(self.made or "a deleted image")

    @property
    def made(self) -> "Image | ImageExport | Backup | None":
        """What it makes; None: that is not there any more."""
        return self.image or self.export or self.backup

    @property
    def project_id(self) -> uuid.UUID | None:
        return self.made.project_id if self.made else None

    @property
    def is_made(self) -> bool:
        """Whether its host says that the result is in the store."""
        return self.has_been_seen(PRESENT)
