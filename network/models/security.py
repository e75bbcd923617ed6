"""Security groups: nothing passes a port but what a rule of one of its groups lets through."""

import uuid

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Func, Q
from django.db.models.functions import Now

from cloud.tenancy.models import NameField, Project
from network.columns import CidrField

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
PROTOCOLS = {"icmp": ICMP, "tcp": TCP, "udp": UDP, "icmpv6": ICMPV6}
WITH_PORTS = (TCP, UDP)


class Family(models.IntegerChoices):
    """Of addresses."""

    V4 = 4, "IPv4"
    V6 = 6, "IPv6"


class Direction(models.TextChoices):
    """As the machine sees it."""

    INGRESS = "ingress"
    EGRESS = "egress"


class SecurityGroup(models.Model):
    """A set of rules for the ports that are in it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="security_groups")
    name = NameField()
    description = models.CharField(max_length=500, blank=True)
    labels = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="security_group_name_is_unique_in_project"),
        ]
        indexes = [GinIndex(fields=["labels"], name="security_group_labels", opclasses=["jsonb_path_ops"])]

    def __str__(self) -> str:
        return self.name


class FamilyOf(Func):
    function = "family"
    output_field = models.IntegerField()


def _of(protocols: tuple[int, ...]) -> Q:
    return Q(protocol__isnull=False, protocol__in=protocols)  # a check that is null would let it pass


def _byte(name: str) -> Q:
    return Q(**{f"{name}__gte": 0, f"{name}__lte": 255})


class SecurityGroupRule(models.Model):
    """What may pass: both ways once a connection is open, as rules are stateful. Null means: any."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    group = models.ForeignKey(SecurityGroup, on_delete=models.CASCADE, related_name="rules")
    direction = models.CharField(max_length=7, choices=Direction.choices)
    family = models.PositiveSmallIntegerField(choices=Family.choices)
    protocol = models.PositiveSmallIntegerField(null=True)  # its number in IP
    port_min = models.PositiveIntegerField(null=True)
    port_max = models.PositiveIntegerField(null=True)
    icmp_type = models.PositiveSmallIntegerField(null=True)
    icmp_code = models.PositiveSmallIntegerField(null=True)
    remote_cidr = CidrField(null=True)
    remote_group = models.ForeignKey(SecurityGroup, null=True, on_delete=models.PROTECT, related_name="+")
    description = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(direction__in=Direction.values), name="rule_direction_is_known"),
            models.CheckConstraint(condition=Q(family__in=Family.values), name="rule_family_is_known"),
            models.CheckConstraint(
                condition=Q(protocol=None) | _byte("protocol"), name="rule_protocol_has_a_byte"
            ),
            models.CheckConstraint(
                condition=Q(port_min=None, port_max=None)
                | _of(WITH_PORTS) & Q(port_min__gte=1, port_max__gte=F("port_min"), port_max__lte=65535),
                name="rule_ports_are_a_range",
            ),
            models.CheckConstraint(
                condition=Q(icmp_type=None, icmp_code=None)
                | _of((ICMP, ICMPV6)) & _byte("icmp_type") & (Q(icmp_code=None) | _byte("icmp_code")),
                name="rule_icmp_type_is_possible",
            ),
            models.CheckConstraint(
                condition=Q(protocol=None)
                | ~Q(protocol=ICMP, family=Family.V6) & ~Q(protocol=ICMPV6, family=Family.V4),
                name="rule_icmp_fits_its_family",
            ),
            models.CheckConstraint(
                condition=Q(remote_cidr=None) | Q(remote_group=None), name="rule_has_one_remote"
            ),
            models.CheckConstraint(
                condition=Q(remote_cidr=None) | Q(family=FamilyOf("remote_cidr")), name="rule_remote_is_of_its_family"
            ),
            models.UniqueConstraint(
                fields=[
                    "group", "direction", "family", "protocol", "port_min", "port_max", "icmp_type", "icmp_code",
                    "remote_cidr", "remote_group",
                ],
                nulls_distinct=False,
                name="rule_is_once_in_its_group",
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        """As people say it: "ingress IPv4 tcp 22 from 10.0.0.0/8"."""
        words = [self.direction, Family(self.family).label, protocol_name(self.protocol)]
        if self.port_min is not None:
            words.append(str(self.port_min) if self.port_min == self.port_max else f"{self.port_min}-{self.port_max}")
        if self.icmp_type is not None:
            words.append(f"type {self.icmp_type}" + ("" if self.icmp_code is None else f" code {self.icmp_code}"))
        remote = self.remote_cidr or (f"group {self.remote_group}" if self.remote_group_id else "anywhere")
        return " ".join([*words, "from" if self.direction == Direction.INGRESS else "to", remote])


def protocol_name(number: int | None) -> str:
    """6 → "tcp"; null → "any protocol"; what has no name here → "protocol 47"."""
    if number is None:
        return "any protocol"
    return next((name for name, known in PROTOCOLS.items() if known == number), f"protocol {number}")
