"""Ports: where something is plugged into a network, with its addresses."""

import uuid

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from cloud.hosts.models import Host
from cloud.tenancy.models import NameField, Project
from network.models.networks import Network, Subnet
from network.models.security import SecurityGroup


def mac_of(port_id: uuid.UUID) -> str:
    """A locally administered MAC address, made from 40 random bits of the port's id."""
    return ":".join(f"{octet:02x}" for octet in (0x06, *port_id.bytes[:5]))


class Port(models.Model):
    """A place on a network. What is plugged there is its holder (docs/decisions/0014)."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="ports")
    network = models.ForeignKey(Network, on_delete=models.PROTECT, related_name="ports")
    name = NameField()
    labels = models.JSONField(default=dict, blank=True)
    mac = models.CharField(max_length=17)
    allowed_address_pairs = models.JSONField(default=list)  # [{"address", "mac"}]; no mac: the port's own
    security_groups = models.ManyToManyField(SecurityGroup, through="PortSecurityGroup", related_name="ports")
    holder_type = models.CharField(max_length=40, blank=True)
    holder_id = models.UUIDField(null=True)
    holder_slot = models.PositiveSmallIntegerField(null=True)  # which of its holder's NICs or legs
    holder_name = models.CharField(max_length=63, blank=True)  # a copy: for people, and for DNS
    gateway = models.BooleanField(default=False)  # chosen for its holder's default route: network.default_routes
    mbps = models.PositiveIntegerField(null=True)  # Mbit/s each way, as its holder has it; null: no limit
    goes_with_holder = models.BooleanField(default=False)  # it was made for its holder, and is deleted with it
    host = models.ForeignKey(Host, null=True, on_delete=models.PROTECT, related_name="+")  # where its holder is
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="port_name_is_unique_in_project"),
            models.UniqueConstraint(fields=["network", "mac"], name="mac_is_unique_in_network"),
            models.CheckConstraint(
                condition=Q(holder_type="", holder_id=None, holder_slot=None)
                | ~Q(holder_type="") & Q(holder_id__isnull=False, holder_slot__isnull=False),
                name="port_holder_is_whole",
            ),
            models.CheckConstraint(condition=Q(host=None) | ~Q(holder_type=""), name="port_on_a_host_has_a_holder"),
            models.UniqueConstraint(
                fields=["holder_type", "holder_id", "holder_slot"],
                condition=Q(holder_id__isnull=False),
                name="holder_has_one_port_a_slot",
            ),
            models.UniqueConstraint(
                fields=["holder_type", "holder_id"], condition=Q(gateway=True), name="holder_has_one_chosen_gateway"
            ),
            models.CheckConstraint(
                condition=Q(gateway=False) | Q(holder_id__isnull=False), name="chosen_gateway_has_a_holder"
            ),
        ]
        indexes = [
            models.Index(fields=["host", "network"], condition=Q(host__isnull=False), name="port_by_host"),
            GinIndex(fields=["labels"], name="port_labels", opclasses=["jsonb_path_ops"]),
        ]

    def __str__(self) -> str:
        return self.name


class PortSecurityGroup(models.Model):
    """A port is a member of a group: the group's rules hold for it, and its addresses are the group's."""

    port = models.ForeignKey(Port, on_delete=models.CASCADE, related_name="+")
    group = models.ForeignKey(SecurityGroup, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["port", "group"], name="port_is_once_in_a_group")]


class Address(models.Model):
    """One address of a port. Its row is the reservation: deleting it frees the address at once."""

    port = models.ForeignKey(Port, on_delete=models.CASCADE, related_name="addresses")
    subnet = models.ForeignKey(Subnet, on_delete=models.PROTECT, related_name="addresses")
    address = models.GenericIPAddressField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["subnet", "address"], name="address_is_used_once_in_a_subnet"),
        ]

    def __str__(self) -> str:
        return self.address
