"""What instances cost."""

from django.db import models
from django.db.models.functions import Now

from cloud.tenancy.models import NameField, Project


class Rental(models.Model):
    """What a deleted instance cost: how long it had held its place, at which price. Those that live are computed."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    instance_id = models.UUIDField(unique=True)
    name = NameField()
    flavor = NameField()
    price_per_hour = models.DecimalField(max_digits=10, decimal_places=4)
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [models.Index(fields=["project", "ended_at"], name="rental_by_project")]
