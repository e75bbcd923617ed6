"""Backups of volumes: blocks beside the control plane, each stored once for a project, and which of them each has.

A block is known by its digest under a key of its project; one of zeros is not stored (storage/agent/blocks.py).
"""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from cloud.tenancy.models import NameField, Project
from storage.agent.blocks import BLOCKS_IN_PART
from storage.models.images import Image
from storage.models.volumes import Snapshot, Volume

DIGEST_LENGTH = 64  # hexadecimal digits


class Backup(models.Model):
    """What was on a volume at one moment, kept apart from its host. It outlives the volume.

    `of`: {"id", "name"}, the volume as it was called. `run`: the attempt of a host whose parts these are.
    """

    class Status(models.TextChoices):
        MAKING = "making"
        READY = "ready"
        FAILED = "failed"
        DAMAGED = "damaged"  # a block of it could not be read back

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="+")
    name = NameField()
    labels = models.JSONField(default=dict, blank=True)
    volume = models.ForeignKey(Volume, null=True, on_delete=models.SET_NULL, related_name="backups")
    of = models.JSONField()
    size_gib = models.PositiveIntegerField()  # of the volume then; it has as many parts
    bootable = models.BooleanField(default=False)
    image = models.ForeignKey(Image, null=True, on_delete=models.SET_NULL, related_name="+")
    boot_files = models.JSONField(default=list)  # the kernel that goes with the disk
    kernel_command_line = models.CharField(max_length=1000, blank=True)
    status = models.CharField(max_length=7, choices=Status.choices, default=Status.MAKING)
    reason = models.TextField(blank=True)  # why it failed, or is damaged
    consistency = models.CharField(max_length=10, choices=Snapshot.Consistency.choices, blank=True)
    copied_at = models.DateTimeField(null=True)  # from then on the volume may change: its host has a copy
    run = models.UUIDField(null=True)
    data_bytes = models.PositiveBigIntegerField(default=0)  # of its blocks that are not zeros
    added_bytes = models.PositiveBigIntegerField(default=0)  # that the store has for it, and had not before
    scheduled = models.BooleanField(default=False)  # made by the volume's policy, which prunes it
    protected = models.BooleanField(default=False)  # refuses to be deleted
    finished_at = models.DateTimeField(null=True)
    verified_at = models.DateTimeField(null=True)  # when all of its blocks had been read back
    drilled_at = models.DateTimeField(null=True)  # when a host last restored it, or could not, in a drill
    drill_problem = models.TextField(blank=True, db_default="")  # why it could not
    drill_found = ArrayField(models.CharField(max_length=40), default=list, db_default=[])  # what was on it: "ext", …
    created_by = models.CharField(max_length=80)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="backup_name_is_unique_in_project"),
            models.CheckConstraint(
                condition=Q(status__in=["making", "ready", "failed", "damaged"]), name="backup_status_is_known"
            ),
            models.CheckConstraint(
                condition=Q(status="making") | Q(finished_at__isnull=False), name="backup_is_finished_when_it_is_made"
            ),
        ]
        indexes = [
            GinIndex(fields=["labels"], name="backup_labels", opclasses=["jsonb_path_ops"]),
            models.Index(fields=["project", "created_at"], name="backup_by_project"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_complete(self) -> bool:
        """Whether there is something to restore."""
        return self.status in (Backup.Status.READY, Backup.Status.DAMAGED)


class BackupPart(models.Model):
    """One GiB of a backup: the digests of its blocks, "" for zeros. It is there before the blocks are."""

    backup = models.ForeignKey(Backup, on_delete=models.CASCADE, related_name="parts")
    number = models.PositiveIntegerField()
    run = models.UUIDField()
    digests = ArrayField(models.CharField(max_length=DIGEST_LENGTH, blank=True), size=BLOCKS_IN_PART)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["backup", "number"], name="backup_has_each_part_once")]

    def __str__(self) -> str:
        return f"{self.number} of {self.backup}"


class BackupBlock(models.Model):
    """A block in the store, in a file that is called by this id: one that comes again after it went is another file."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="+")
    digest = models.CharField(max_length=DIGEST_LENGTH)
    size = models.PositiveIntegerField()  # bytes of its file
    damaged = models.BooleanField(default=False)  # it was not what it should be when it was read back
    verified_at = models.DateTimeField(null=True)  # when it was last read back
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "digest"], name="backup_block_is_stored_once_for_a_project"),
        ]

    def __str__(self) -> str:
        return str(self.pk)


class BackupSpace(models.Model):
    """What a project's blocks take of the store, as last summed up."""

    project = models.OneToOneField(Project, primary_key=True, on_delete=models.CASCADE, related_name="+")
    bytes = models.PositiveBigIntegerField(default=0)
    gib = models.PositiveIntegerField(default=0)  # rounded up, for the quota

    def __str__(self) -> str:
        return f"{self.gib} GiB"


class BackupPolicy(models.Model):
    """When a volume is backed up by itself, and which of these backups stay.

    Of the `keep_…` last hours, days, weeks and months that have one, the last one stays; and the last `keep_last` ones.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    volume = models.OneToOneField(Volume, on_delete=models.CASCADE, related_name="backup_policy")
    schedule = models.CharField(max_length=100)  # five fields, as in a crontab
    time_zone = models.CharField(max_length=64, default="UTC")
    keep_last = models.PositiveSmallIntegerField(default=0)
    keep_hourly = models.PositiveSmallIntegerField(default=0)
    keep_daily = models.PositiveSmallIntegerField(default=0)
    keep_weekly = models.PositiveSmallIntegerField(default=0)
    keep_monthly = models.PositiveSmallIntegerField(default=0)
    enabled = models.BooleanField(default=True)
    next_at = models.DateTimeField(null=True)  # null: never, by its schedule
    problem = models.TextField(blank=True)  # why the last one could not be begun
    problem_since = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(keep_last__gt=0) | Q(keep_hourly__gt=0) | Q(keep_daily__gt=0) | Q(keep_weekly__gt=0)
                | Q(keep_monthly__gt=0),
                name="backup_policy_keeps_something",
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"the backups of {self.volume}"

    @property
    def project_id(self) -> uuid.UUID:
        return self.volume.project_id
