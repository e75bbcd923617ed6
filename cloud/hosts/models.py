"""Hosts: what they have, what is placed on them, what they are ordered to do, and what they last said."""

import uuid

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from cloud.tenancy.models import NameField


class Host(models.Model):
    """A compute node. `free_*` is the one stored sum of the house; PostgreSQL's triggers keep it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = NameField(unique=True)
    labels = models.JSONField(default=dict, blank=True)
    enabled = models.BooleanField(default=True)
    vcpus = models.PositiveIntegerField()
    memory_mib = models.PositiveIntegerField()
    disk_gib = models.PositiveIntegerField()
    vcpu_overcommit = models.FloatField(default=4.0)
    free_vcpus = models.IntegerField(default=0)
    free_memory_mib = models.IntegerField(default=0)
    free_disk_gib = models.IntegerField(default=0)
    offers = ArrayField(models.CharField(max_length=40), default=list)  # by its capabilities, as the kinds read them
    accelerated = models.BooleanField(default=False, db_default=False)  # hardware speeds up something that it offers
    capabilities = models.JSONField(default=dict)
    boot_id = models.CharField(max_length=64, blank=True)
    quarantined = models.TextField(blank=True)  # why nothing is ordered from this host
    lost_at = models.DateTimeField(null=True)  # since when an admin says that it is gone for good: cloud.hosts.lost
    leaves_behind = models.BooleanField(default=False, db_default=False)  # lost, and what no other host reaches as well
    token_digest = models.CharField(max_length=64, unique=True)
    redis_password_digest = models.CharField(max_length=64)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [
            models.Index(
                fields=["free_vcpus", "free_memory_mib", "id"],
                condition=Q(enabled=True),
                include=["free_disk_gib"],
                name="host_with_room",
            ),
            models.Index(
                fields=["free_vcpus", "free_memory_mib", "id"],
                condition=Q(enabled=True, accelerated=True),
                include=["free_disk_gib"],
                name="host_with_room_accelerated",
            ),
        ]
        triggers = [
            # What is free follows capacity; what is placed is kept by the trigger on allocations.
            pgtrigger.Trigger(
                name="capacity_changed",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert | pgtrigger.UpdateOf("vcpus", "memory_mib", "disk_gib", "vcpu_overcommit"),
                func="""
                    IF TG_OP = 'INSERT' THEN
                        NEW.free_vcpus := floor(NEW.vcpus * NEW.vcpu_overcommit);
                        NEW.free_memory_mib := NEW.memory_mib;
                        NEW.free_disk_gib := NEW.disk_gib;
                    ELSE
                        NEW.free_vcpus := OLD.free_vcpus + floor(NEW.vcpus * NEW.vcpu_overcommit)
                            - floor(OLD.vcpus * OLD.vcpu_overcommit);
                        NEW.free_memory_mib := OLD.free_memory_mib + NEW.memory_mib - OLD.memory_mib;
                        NEW.free_disk_gib := OLD.free_disk_gib + NEW.disk_gib - OLD.disk_gib;
                    END IF;
                    RETURN NEW;
                """,
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def runs(self) -> list[str]:
        """How it runs machines, of all that it offers: "qemu/x86_64/kvm" is, "images" is not."""
        return [name for name in self.offers if "/" in name]


class HostPulse(models.Model):
    """What a host's last heartbeat said. Apart from the host's row, so that a heartbeat never waits for a placement."""

    host = models.OneToOneField(Host, on_delete=models.CASCADE, primary_key=True, related_name="pulse")
    seen_at = models.DateTimeField(db_default=Now())
    silent_since = models.DateTimeField(null=True)  # as cloud.hosts.silence has noted it
    agent_version = models.CharField(max_length=40, blank=True)
    inventory = models.JSONField(default=list)  # [{"type", "id", "generation", "sequence", "seen"}]
    problems = models.JSONField(default=list, db_default=[])  # [{"what", "problem", "type", "id"}]; no id for some
    load = models.JSONField(null=True)  # as agent_api.serializers.Load; null until it is told

    class Meta:
        indexes = [
            models.Index(fields=["silent_since"], condition=Q(silent_since__isnull=False), name="silent_host"),
        ]


class HostLoad(models.Model):
    """What a host used, measured: the first heartbeat of each minute. Kept for a day."""

    pk = models.CompositePrimaryKey("host_id", "at")
    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="loads", db_index=False)
    at = models.DateTimeField(db_index=True)
    cpu_percent = models.FloatField()
    memory_mib = models.FloatField()
    disk_gib = models.FloatField()


class Allocation(models.Model):
    """What a resource occupies on a host. Triggers keep the host's free capacity, and refuse to overbook it.

    No foreign key to the resource: it outlives a row that is deleted while its host is away, until the host confirms.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    resource_type = models.CharField(max_length=40)
    resource_id = models.UUIDField()
    host = models.ForeignKey(Host, on_delete=models.PROTECT, related_name="allocations")
    vcpus = models.PositiveIntegerField(default=0)
    memory_mib = models.PositiveIntegerField(default=0)
    disk_gib = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["resource_id", "resource_type", "host"], name="one_allocation_per_host_and_resource"
            ),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="host_has_room",
                when=pgtrigger.After,
                operation=pgtrigger.Insert | pgtrigger.Update | pgtrigger.Delete,
                # Growth needs room; giving back always works, also on a host that shrank below what it holds.
                func="""
                    IF TG_OP <> 'INSERT' THEN
                        UPDATE hosts_host SET free_vcpus = free_vcpus + OLD.vcpus,
                            free_memory_mib = free_memory_mib + OLD.memory_mib,
                            free_disk_gib = free_disk_gib + OLD.disk_gib
                        WHERE id = OLD.host_id;
                    END IF;
                    IF TG_OP <> 'DELETE' THEN
                        UPDATE hosts_host SET free_vcpus = free_vcpus - NEW.vcpus,
                            free_memory_mib = free_memory_mib - NEW.memory_mib,
                            free_disk_gib = free_disk_gib - NEW.disk_gib
                        WHERE id = NEW.host_id AND free_vcpus >= NEW.vcpus
                            AND free_memory_mib >= NEW.memory_mib AND free_disk_gib >= NEW.disk_gib;
                        IF NOT FOUND THEN
                            RAISE EXCEPTION 'the host has no room for this'
                                USING ERRCODE = 'check_violation', CONSTRAINT = 'host_has_room';
                        END IF;
                    END IF;
                    RETURN NULL;
                """,
            ),
        ]

    @classmethod
    def of(cls, resource_type: str, *resource_ids: uuid.UUID) -> "models.QuerySet[Allocation]":
        """What these resources occupy, on whichever hosts."""
        return cls.objects.filter(resource_type=resource_type, resource_id__in=resource_ids)


class JoinToken(models.Model):
    """A one-time token with which a machine becomes a host."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()
    created_by = models.CharField(max_length=80)
    created_at = models.DateTimeField(db_default=Now())
    used_at = models.DateTimeField(null=True)
    host = models.ForeignKey(Host, null=True, on_delete=models.SET_NULL, related_name="+")

    def __str__(self) -> str:
        return f"made by {self.created_by}"


class Order(models.Model):
    """A host's orders for one resource. No spec in it: claiming renders the wish from the rows as they are then."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    host = models.ForeignKey(Host, on_delete=models.PROTECT, related_name="orders")
    resource_type = models.CharField(max_length=40)
    resource_id = models.UUIDField()
    verb = models.CharField(max_length=40)
    generation = models.PositiveBigIntegerField()
    attempt = models.PositiveIntegerField(default=0)
    claimed_by = models.CharField(max_length=64, default="", db_default="")  # the run of the host's worker
    problem = models.CharField(max_length=500, default="", db_default="")  # why its spec could not be rendered
    posted_at = models.DateTimeField(db_default=Now())
    lease_until = models.DateTimeField(null=True)
    answered_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["host", "resource_type", "resource_id"],
                condition=Q(answered_at__isnull=True),
                name="one_live_order_per_host_and_resource",
            ),
        ]
        indexes = [
            models.Index(fields=["host", "posted_at"], condition=Q(answered_at__isnull=True), name="order_to_claim"),
            models.Index(fields=["resource_type", "resource_id"], name="order_by_resource"),
        ]
