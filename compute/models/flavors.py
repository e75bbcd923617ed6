"""Sizes of instances, and their prices."""

import uuid

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from cloud.tenancy.models import NameField


class Flavor(models.Model):
    """A size of instance, and its price."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = NameField(unique=True)
    labels = models.JSONField(default=dict, blank=True)
    vcpus = models.PositiveIntegerField()
    memory_mib = models.PositiveIntegerField()
    disk_gib = models.PositiveIntegerField()
    network_mbps = models.PositiveIntegerField(null=True, blank=True)  # of each NIC, each way; null: no limit
    price_per_hour = models.DecimalField(max_digits=10, decimal_places=4, default=0)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(vcpus__gte=1), name="flavor_has_a_vcpu"),
            models.CheckConstraint(condition=Q(memory_mib__gte=64), name="flavor_has_64_mib"),
            models.CheckConstraint(condition=Q(disk_gib__gte=1), name="flavor_has_a_gib_of_disk"),
            models.CheckConstraint(
                condition=Q(network_mbps=None) | Q(network_mbps__gte=1), name="flavor_lets_some_pass"
            ),
            models.CheckConstraint(condition=Q(price_per_hour__gte=0), name="flavor_price_is_not_negative"),
        ]

    def __str__(self) -> str:
        return self.name
