"""Images: what guests are launched from."""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from cloud.tenancy.models import NameField, Project


class Image(models.Model):
    """A guest to launch. Without a project it is the cloud's own, and shown in every project."""

    class Architecture(models.TextChoices):
        X86_64 = "x86_64"
        AARCH64 = "aarch64"
        RISCV64 = "riscv64"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, null=True, blank=True, on_delete=models.PROTECT, related_name="images")
    name = NameField()
    labels = models.JSONField(default=dict, blank=True)
    description = models.CharField(max_length=500, blank=True)
    os = models.CharField(max_length=40, default="linux")
    version = models.CharField(max_length=80, blank=True)
    architecture = models.CharField(max_length=8, choices=Architecture.choices)
    hypervisors = ArrayField(models.CharField(max_length=20))
    min_disk_gib = models.PositiveIntegerField(default=1)
    min_memory_mib = models.PositiveIntegerField(default=64)
    default_user = models.CharField(max_length=32, default="root")
    kernel_command_line = models.CharField(max_length=1000, blank=True)
    files = models.JSONField(default=list)  # [{"role", "sha256", "size", "format"}]
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="image_name_is_unique_in_project"),
            models.UniqueConstraint(
                fields=["name"], condition=Q(project__isnull=True), name="public_image_name_is_unique"
            ),
        ]
        indexes = [GinIndex(fields=["labels"], name="image_labels", opclasses=["jsonb_path_ops"])]

    def __str__(self) -> str:
        return self.name

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file["size"] for file in self.files)
