"""Virtual machines: what is wanted, what is seen, and where they are placed."""

import uuid
from typing import Any

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from cloud.hosts.hosted import Hosted
from cloud.hosts.models import Host
from cloud.tenancy.models import NameField, Project
from storage.models import Image


class Power(models.TextChoices):
    """What a machine should be, or was last seen to be."""

    UNKNOWN = "unknown"
    RUNNING = "running"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    STOPPED = "stopped"
    BROKEN = "broken"
    GONE = "gone"


WISHES = (Power.RUNNING, Power.PAUSED, Power.SUSPENDED, Power.STOPPED)


class RestartPolicy(models.TextChoices):
    """Whether a machine that ended without being told to is started again."""

    ON_CRASH = "on_crash"
    NEVER = "never"
    ALWAYS = "always"


class Flavor(models.Model):
    """A size of instance, and its price."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = NameField(unique=True)
    labels = models.JSONField(default=dict, blank=True)
    vcpus = models.PositiveIntegerField()
    memory_mib = models.PositiveIntegerField()
    disk_gib = models.PositiveIntegerField()
    price_per_hour = models.DecimalField(max_digits=10, decimal_places=4, default=0)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(vcpus__gte=1), name="flavor_has_a_vcpu"),
            models.CheckConstraint(condition=Q(memory_mib__gte=64), name="flavor_has_64_mib"),
            models.CheckConstraint(condition=Q(disk_gib__gte=1), name="flavor_has_a_gib_of_disk"),
            models.CheckConstraint(condition=Q(price_per_hour__gte=0), name="flavor_price_is_not_negative"),
        ]

    def __str__(self) -> str:
        return self.name


class KeyPair(models.Model):
    """An OpenSSH public key that new instances let in."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="keypairs")
    name = NameField()
    labels = models.JSONField(default=dict, blank=True)
    public_key = models.TextField()
    fingerprint = models.CharField(max_length=100)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="keypair_name_is_unique_in_project"),
        ]
        indexes = [GinIndex(fields=["labels"], name="keypair_labels", opclasses=["jsonb_path_ops"])]

    def __str__(self) -> str:
        return self.name


class Instance(Hosted):
    """A virtual machine: what its tenant wants, and what its host sees. Its status is derived (compute.status)."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="instances")
    name = NameField()
    labels = models.JSONField(default=dict, blank=True)
    flavor = models.ForeignKey(Flavor, on_delete=models.PROTECT, related_name="instances")
    vcpus = models.PositiveIntegerField()
    memory_mib = models.PositiveIntegerField()
    disk_gib = models.PositiveIntegerField()
    price_per_hour = models.DecimalField(
        max_digits=10, decimal_places=4, default=0
    )  # the flavor's, as it was at launch
    image = models.ForeignKey(Image, on_delete=models.PROTECT, related_name="instances")
    boot_files = models.JSONField(default=list)  # the image's, as they were at launch: its disk goes with its kernel
    kernel_command_line = models.CharField(max_length=1000, blank=True)
    hypervisor_wish = models.CharField(max_length=20, blank=True)
    hypervisor = models.CharField(max_length=20, blank=True)  # chosen with the host
    host_wish = models.ForeignKey(Host, null=True, on_delete=models.SET_NULL, related_name="+")
    placement = models.JSONField(null=True)  # the last decision, as compute.placement.Decision describes it
    keypairs = models.JSONField(default=list)  # [{"name", "public_key"}], as they were at launch
    user_data = models.TextField(blank=True)
    restart_policy = models.CharField(max_length=8, choices=RestartPolicy.choices, default=RestartPolicy.ON_CRASH)

    wanted_power = models.CharField(max_length=9, choices=Power.choices, default=Power.RUNNING)
    snapshot = models.UUIDField(null=True)  # to be kept by its host, for clones that have yet to begin
    cloned_from = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="clones")
    clone_of_snapshot = models.UUIDField(null=True)  # of `cloned_from`, until it has begun
    ssh_host_key = models.CharField(max_length=200, blank=True, db_default="")  # that its host has given it

    failed_at = models.DateTimeField(null=True)
    failed_reason = models.TextField(blank=True)
    restarted_at = models.JSONField(default=list)  # when policy started it again: RFC 3339, the last hour's
    created_by = models.CharField(max_length=80)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="instance_name_is_unique_in_project"),
            models.CheckConstraint(condition=Q(wanted_power__in=WISHES), name="wanted_power_is_a_wish"),
            models.CheckConstraint(condition=Q(seen__in=Power.values), name="seen_power_is_known"),
            models.CheckConstraint(
                condition=Q(host__isnull=False) | ~Q(seen__in=["running", "paused"]),
                name="running_instance_has_a_host",
            ),
            models.CheckConstraint(condition=Q(host__isnull=True) | ~Q(hypervisor=""), name="placed_has_a_hypervisor"),
        ]
        indexes = [
            models.Index(fields=["project", "created_at", "id"], name="instance_by_project"),
            models.Index(fields=["host"], name="instance_by_host"),
            GinIndex(fields=["labels"], name="instance_labels", opclasses=["jsonb_path_ops"]),
        ]

    def __str__(self) -> str:
        return self.name


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


class ConsoleLog(models.Model):
    """The end of an instance's serial log, as its host last pushed it."""

    instance = models.OneToOneField(Instance, on_delete=models.CASCADE, primary_key=True, related_name="console_log")
    offset = models.PositiveBigIntegerField(default=0)  # of the first byte kept, since the machine was made
    content = models.BinaryField(default=bytes)
    updated_at = models.DateTimeField(db_default=Now())
    ready_offset = models.BigIntegerField(default=-1, db_default=-1)  # of the last READY that was heard
    ready_seconds = models.FloatField(null=True)  # since the kernel began, as the guest says
    ready_at = models.DateTimeField(null=True)

    class Meta:
        triggers = [
            pgtrigger.Trigger(
                name="hint",
                when=pgtrigger.After,
                operation=pgtrigger.Insert | pgtrigger.Update,
                func="""
                    PERFORM pg_notify('hints', json_build_object('project', i.project_id, 'type', 'console',
                        'id', i.id)::text) FROM compute_instance i WHERE i.id = NEW.instance_id;
                    RETURN NULL;
                """,
            ),
        ]


class ConsoleTicket(models.Model):
    """A console URL that was given out and not used: using it deletes it. Only digests of what is secret are here."""

    digest = models.CharField(max_length=64, primary_key=True)
    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="+")
    generation = models.PositiveBigIntegerField()
    kind = models.CharField(max_length=6)  # serial or vnc
    holder = models.CharField(max_length=64)  # digest of the session or token that may use it
    expires_at = models.DateTimeField()


METRICS = (
    "cpu_percent",
    "memory_mib",
    "disk_read_bytes_per_second",
    "disk_write_bytes_per_second",
    "disk_reads_per_second",
    "disk_writes_per_second",
    "network_received_bytes_per_second",
    "network_sent_bytes_per_second",
)


class Real(models.FloatField):
    """Four bytes of floating point: enough for what is drawn."""

    def db_type(self, connection: Any) -> str:
        return "real"


class Sample(models.Model):
    """What one instance used in some ten seconds. No foreign key: its check would lock the instance's row each time."""

    pk = models.CompositePrimaryKey("instance_id", "at")
    instance_id = models.UUIDField()
    at = models.DateTimeField(db_index=True)
    cpu_percent = Real(null=True)
    memory_mib = Real(null=True)
    disk_read_bytes_per_second = Real(null=True)
    disk_write_bytes_per_second = Real(null=True)
    disk_reads_per_second = Real(null=True)
    disk_writes_per_second = Real(null=True)
    network_received_bytes_per_second = Real(null=True)
    network_sent_bytes_per_second = Real(null=True)


def _packed() -> ArrayField:
    return ArrayField(Real(null=True))


class PackedSamples(models.Model):
    """Means over even parts of the time from `at` on; null where nothing was measured."""

    pk = models.CompositePrimaryKey("instance_id", "at")
    instance_id = models.UUIDField()
    at = models.DateTimeField(db_index=True)
    cpu_percent = _packed()
    memory_mib = _packed()
    disk_read_bytes_per_second = _packed()
    disk_write_bytes_per_second = _packed()
    disk_reads_per_second = _packed()
    disk_writes_per_second = _packed()
    network_received_bytes_per_second = _packed()
    network_sent_bytes_per_second = _packed()

    class Meta:
        abstract = True


class SampleHour(PackedSamples):
    """An hour of minutes."""


class SampleDay(PackedSamples):
    """A day (UTC) of quarters of an hour."""
