"""SSH keys of tenants."""

import uuid

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models.functions import Now

from cloud.tenancy.models import NameField, Project


class KeyPair(models.Model):
    """An OpenSSH public key that new instances let in."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="keypairs")
    name = NameField()
    labels = models.JSONField(default=dict, blank=True)
    public_key = models.TextField()
    fingerprint = models.CharField(max_length=100)
    created_by = models.CharField(max_length=80, blank=True, db_default="")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="keypair_name_is_unique_in_project"),
        ]
        indexes = [GinIndex(fields=["labels"], name="keypair_labels", opclasses=["jsonb_path_ops"])]

    def __str__(self) -> str:
        return self.name
