"""The work on an image that a host is ordered to do: to look at what came, and to convert it."""

import uuid

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from cloud.hosts.hosted import Hosted
from storage.models.images import Image

PRESENT = "present"  # what is seen of one whose result is in the store


class ImageImport(Hosted):
    """An image in the making, on the host that inspects and converts it. It goes when its host has cleared up."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    image = models.ForeignKey(Image, on_delete=models.PROTECT, related_name="imports")
    wanted = models.BooleanField(default=True)  # false: its host is to clear up, and then the row goes
    files = models.JSONField(default=list)  # [{"n", "sha256", "size"}]: what has come of its result
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["image", "host"], name="image_is_once_in_work_on_a_host"),
            models.CheckConstraint(condition=Q(host__isnull=False), name="image_import_has_a_host"),
        ]

    def __str__(self) -> str:
        return self.image.name

    @property
    def project_id(self) -> uuid.UUID | None:
        return self.image.project_id
