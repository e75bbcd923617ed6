"""How images come in: what their owners upload, and the work of a host that looks at it and converts it."""

import uuid
from pathlib import Path

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from cloud.hosts.hosted import Hosted
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


class ImageImport(Hosted):
    """An image in the making, on the host that inspects and converts it. It goes when its host has cleared up."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    image = models.ForeignKey(Image, null=True, on_delete=models.SET_NULL, related_name="imports")
    wanted = models.BooleanField(default=True)  # false: its host is to clear up, and then the row goes
    files = models.JSONField(default=list)  # [{"index", "sha256", "size"}]: what has come of its result
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["image", "host"], name="image_is_once_in_work_on_a_host"),
            models.CheckConstraint(condition=Q(host__isnull=False), name="image_import_has_a_host"),
            models.CheckConstraint(condition=Q(wanted=False) | Q(image__isnull=False), name="wanted_import_has_image"),
        ]

    def __str__(self) -> str:
        return str(self.image or "a deleted image")

    @property
    def project_id(self) -> uuid.UUID | None:
        return self.image.project_id if self.image else None

    @property
    def is_made(self) -> bool:
        """Whether its host says that the result is in the store."""
        return self.has_been_seen(PRESENT)
