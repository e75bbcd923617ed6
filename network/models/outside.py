"""What makes machines reachable from outside: address pools, floating IPs, port forwards."""

import uuid

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from cloud.tenancy.models import NameField, Project
from network.columns import CidrField
from network.models.ports import Address


class AddressPool(models.Model):
    """Addresses outside of the cloud that lead to its hosts. Admins make it; floating IPs are taken from it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = NameField(unique=True)
    labels = models.JSONField(default=dict, blank=True)
    cidr = CidrField()
    allocation_ranges = models.JSONField(default=list)  # [{"first", "last"}]
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            ExclusionConstraint(
                expressions=[(OpClass(F("cidr"), name="inet_ops"), "&&")], name="address_pools_do_not_overlap"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class FloatingIP(models.Model):
    """An address of a pool that a project holds. It leads to one address of one port, or to nothing for now."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="floating_ips")
    pool = models.ForeignKey(AddressPool, on_delete=models.PROTECT, related_name="floating_ips")
    name = NameField()
    labels = models.JSONField(default=dict, blank=True)
    address = models.GenericIPAddressField()
    target = models.ForeignKey(Address, null=True, on_delete=models.PROTECT, related_name="floating_ips")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = "floating IP"
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="floating_ip_name_is_unique_in_project"),
            models.UniqueConstraint(fields=["address"], name="floating_address_is_used_once"),
            models.UniqueConstraint(fields=["target"], name="address_has_one_floating_ip"),
        ]
        indexes = [GinIndex(fields=["labels"], name="floating_ip_labels", opclasses=["jsonb_path_ops"])]

    def __str__(self) -> str:
        return self.name


class PortForward(models.Model):
    """One port of a floating IP, or of 127.0.0.1 on the machine's host, that leads to a port of a machine."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="port_forwards")
    name = NameField()
    labels = models.JSONField(default=dict, blank=True)
    protocol = models.CharField(max_length=3, choices=[("tcp", "tcp"), ("udp", "udp")])
    floating_ip = models.ForeignKey(FloatingIP, null=True, on_delete=models.PROTECT, related_name="port_forwards")
    listen_port = models.PositiveIntegerField()
    target = models.ForeignKey(Address, on_delete=models.PROTECT, related_name="port_forwards")
    target_port = models.PositiveIntegerField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="port_forward_name_is_unique_in_project"),
            models.UniqueConstraint(
                fields=["floating_ip", "protocol", "listen_port"],
                nulls_distinct=False,  # 127.0.0.1 of all hosts counts as one: a machine may move
                name="listening_port_is_used_once",
            ),
            models.CheckConstraint(condition=Q(protocol__in=("tcp", "udp")), name="forwarded_protocol_is_known"),
            models.CheckConstraint(
                condition=Q(listen_port__gte=1, listen_port__lte=65535, target_port__gte=1, target_port__lte=65535),
                name="forwarded_ports_are_possible",
            ),
        ]
        indexes = [GinIndex(fields=["labels"], name="port_forward_labels", opclasses=["jsonb_path_ops"])]

    def __str__(self) -> str:
        return self.name
