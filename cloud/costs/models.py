"""What resources have cost."""

from django.db import models
from django.db.models.functions import Now

from cloud.tenancy.models import NameField, Project


class Rental(models.Model):
    """What a deleted resource has cost: how long it held its place, at which price. Those that live are computed."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    resource_type = models.CharField(max_length=20)
    resource_id = models.UUIDField()
    name = NameField()
    size = models.CharField(max_length=80)
    labels = models.JSONField(default=dict)
    price_per_hour = models.DecimalField(max_digits=12, decimal_places=6)
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["resource_type", "resource_id"], name="one_rental_per_resource"),
        ]
        indexes = [models.Index(fields=["project", "ended_at"], name="rental_of_project")]
