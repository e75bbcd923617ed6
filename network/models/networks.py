"""Networks and their subnets."""

import uuid

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Func, Q
from django.db.models.functions import Now

from cloud.tenancy.models import NameField, Project
from network.columns import CidrField

MIN_MTU, MAX_MTU = 1280, 65000
MAX_VNI = 2**24 - 1


class Network(models.Model):
    """An isolated segment of a project. Its VNI tells it from every other network of the cloud."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="networks")
    name = NameField()
    labels = models.JSONField(default=dict, blank=True)
    vni = models.PositiveIntegerField()
    mtu = models.PositiveIntegerField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="network_name_is_unique_in_project"),
            models.UniqueConstraint(fields=["vni"], name="vni_is_unique"),
            models.CheckConstraint(condition=Q(vni__gte=1, vni__lte=MAX_VNI), name="vni_has_24_bits"),
            models.CheckConstraint(condition=Q(mtu__gte=MIN_MTU, mtu__lte=MAX_MTU), name="network_mtu_is_possible"),
        ]
        indexes = [GinIndex(fields=["labels"], name="network_labels", opclasses=["jsonb_path_ops"])]

    def __str__(self) -> str:
        return self.name

    @property
    def domain(self) -> str:
        """Where its machines have names: web.default.internal."""
        return f"{self.name}.internal"


class Span(Func):
    """All addresses of a subnet in its network, as a range of bytes that begin with the network's id.

    PostgreSQL has no exclusion constraint over a UUID and a CIDR without the extension btree_gist, which not every
    installation has. The type is made in the first migration.
    """

    template = (
        "network_span(uuid_send(network_id) || inet_send(host(network(cidr))::inet),"
        " uuid_send(network_id) || inet_send(host(broadcast(cidr))::inet), '[]')"
    )

    def __init__(self) -> None:
        super().__init__(F("network_id"), F("cidr"), output_field=models.BinaryField())


class Subnet(models.Model):
    """A range of addresses on a network, and what DHCP and router advertisements tell its machines."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="subnets")
    network = models.ForeignKey(Network, on_delete=models.PROTECT, related_name="subnets")
    name = NameField()
    labels = models.JSONField(default=dict, blank=True)
    cidr = CidrField()
    gateway = models.GenericIPAddressField(null=True)
    allocation_ranges = models.JSONField(default=list)  # [{"first", "last"}]: where addresses are taken from
    dns = models.JSONField(default=list)  # addresses of servers; []: the network's own
    routes = models.JSONField(default=list)  # [{"destination", "next_hop"}]
    dhcp = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="subnet_name_is_unique_in_project"),
            ExclusionConstraint(expressions=[(Span(), "&&")], name="subnets_of_a_network_do_not_overlap"),
            models.CheckConstraint(
                condition=Q(gateway=None) | Q(gateway__within=F("cidr")), name="gateway_is_in_its_subnet"
            ),
        ]
        indexes = [GinIndex(fields=["labels"], name="subnet_labels", opclasses=["jsonb_path_ops"])]

    def __str__(self) -> str:
        return self.name

    @property
    def family(self) -> int:
        return 6 if ":" in self.cidr else 4

    @property
    def is_autonomous(self) -> bool:
        """Whether machines make their addresses of their MACs, as router advertisements tell them to (SLAAC)."""
        return self.family == 6 and not self.dhcp and self.prefix_length == 64

    @property
    def prefix_length(self) -> int:
        return int(self.cidr.partition("/")[2])
