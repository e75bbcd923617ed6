"""Routers: they join subnets, and lead out."""

import uuid

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models.functions import Now

from cloud.tenancy.models import NameField, Project


class Router(models.Model):
    """Joins subnets; each leg is a port that it holds. `external`: it has a way out of the cloud."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="routers")
    name = NameField()
    labels = models.JSONField(default=dict, blank=True)
    external = models.BooleanField(default=True)
    snat = models.BooleanField(default=True)  # who has no floating IP goes out under the host's address
    routes = models.JSONField(default=list)  # [{"destination", "next_hop"}]
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="router_name_is_unique_in_project"),
        ]
        indexes = [GinIndex(fields=["labels"], name="router_labels", opclasses=["jsonb_path_ops"])]

    def __str__(self) -> str:
        return self.name
