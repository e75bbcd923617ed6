"""What resources have cost."""

from django.db import models
from django.db.models.functions import Now

from cloud.tenancy.models import NameField, Project


class Rental(models.Model):
    """What a resource has cost that was deleted since, or costs something else by now: how long it held its place, at
    which price. Those that live are computed.
    """

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
            models.UniqueConstraint(
                fields=["resource_type", "resource_id", "began_at"], name="one_rental_per_resource_and_time"
            ),
        ]
        indexes = [models.Index(fields=["project", "ended_at"], name="rental_of_project")]


class Budget(models.Model):
    """What a project means to spend in a month. It warns, and stops nothing."""

    project = models.OneToOneField(Project, on_delete=models.CASCADE, primary_key=True, related_name="+")
    monthly = models.DecimalField(max_digits=12, decimal_places=2)
    warn_percent = models.PositiveSmallIntegerField(default=80)
    told_month = models.DateField(null=True)  # in which `told_percent` was told of
    told_percent = models.PositiveSmallIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(monthly__gt=0), name="budget_is_more_than_nothing"),
            models.CheckConstraint(
                condition=models.Q(warn_percent__gte=1, warn_percent__lte=100), name="budget_warns_within_100_percent"
            ),
        ]

    def __str__(self) -> str:
        return f"budget of {self.project}"
