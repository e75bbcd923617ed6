"""Volumes: disks that outlive the machines that they are attached to. Each is a chain of layers.

Only the last layer of a chain is ever written. So a snapshot is a layer that is not written any more, and a clone is a
new layer over it; layers form trees (docs/decisions/0023).
"""

import uuid
from decimal import Decimal
from operator import attrgetter

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from cloud.hosts.models import Host
from cloud.tenancy.models import NameField, Project
from storage.models.images import Image
from storage.models.types import VolumeType

MAX_SIZE_GIB = 16 * 1024
MAX_SLOT = 25  # /dev/vdz


class Layer(models.Model):
    """A file of a host's `volumes` folder, named by this id: what was written since its parent was left alone.

    `pool`: the folder that hosts share where it is instead, as all of its tree; `host` is then who works on it, and
    `term` and `taken_from` (by what hosts call themselves there) are the same in all of the tree: decision 54.

    `rbd`: the image in Ceph where it is instead. Layers that follow each other in one are what was kept of it at times,
    and the last of them is the image as it is now (decision 56).

    `base` is the file of an image that the first layer of a tree lies on: {"sha256", "size", "format"}.
    `backup`: what its host fills it with when it makes it; `merges`: the layers, the lowest first, that it makes it of.
    `made`: its host has said that it is there, so it is never made anew. `sealed_at` is since when nobody writes it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tree = models.UUIDField()  # the id of the first layer that its volume had
    parent = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="children")
    host = models.ForeignKey(Host, null=True, on_delete=models.PROTECT, related_name="+")  # null: written nowhere yet
    pool = models.UUIDField(null=True)
    rbd = models.UUIDField(null=True)
    term = models.PositiveIntegerField(default=1, db_default=1)  # of `host` in a pool: each host there has its own
    taken_from = ArrayField(models.UUIDField(), default=list, db_default=[])  # hosts that may still write in the pool
    size_gib = models.PositiveIntegerField()
    base = models.JSONField(null=True)
    backup = models.ForeignKey("storage.Backup", null=True, on_delete=models.PROTECT, related_name="layers")
    merges = ArrayField(models.UUIDField(), default=list, db_default=[])
    made = models.BooleanField(default=False)
    sealed_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(parent=None) | Q(base=None), name="layer_lies_on_one_thing"),
        ]
        indexes = [
            models.Index(fields=["tree"], name="layer_by_tree"),
            models.Index(fields=["pool"], condition=~Q(pool=None), name="layer_by_pool"),
        ]

    def __str__(self) -> str:
        return str(self.pk)


class Volume(models.Model):
    """A disk of a project. `active` is the layer that is written, `next` the one that is about to take over."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="volumes")
    name = NameField()
    labels = models.JSONField(default=dict, blank=True)
    size_gib = models.PositiveIntegerField()
    type = models.ForeignKey(VolumeType, on_delete=models.PROTECT, related_name="volumes")
    price_per_gib_hour = models.DecimalField(max_digits=7, decimal_places=6)  # of its type when it got that
    priced_since = models.DateTimeField(db_default=Now())  # since when it has had this size and price
    active = models.OneToOneField(Layer, on_delete=models.PROTECT, related_name="volume")
    next = models.OneToOneField(Layer, null=True, on_delete=models.PROTECT, related_name="+")
    bootable = models.BooleanField(default=False)
    image = models.ForeignKey(Image, null=True, on_delete=models.PROTECT, related_name="volumes")  # at its bottom
    boot_files = models.JSONField(default=list)  # the image's, as they were: a disk goes with its kernel
    kernel_command_line = models.CharField(max_length=1000, blank=True)
    source = models.JSONField(null=True)  # what it was made from: {"type", "id", "name"}
    protected = models.BooleanField(default=False)  # refuses to be deleted
    failed_reason = models.TextField(blank=True)  # why it could not be made, or what became of it
    trashed_at = models.DateTimeField(null=True)  # since when it waits in the trash to be deleted for good
    created_by = models.CharField(max_length=80)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "name"], condition=Q(trashed_at=None), name="volume_name_is_unique_in_project"
            ),
            models.CheckConstraint(
                condition=Q(size_gib__gte=1, size_gib__lte=MAX_SIZE_GIB), name="volume_size_is_possible"
            ),
        ]
        indexes = [GinIndex(fields=["labels"], name="volume_labels", opclasses=["jsonb_path_ops"])]

    def __str__(self) -> str:
        return self.name

    @property
    def price_per_hour(self) -> Decimal:
        return self.size_gib * self.price_per_gib_hour

    @property
    def disk_gib(self) -> int:
        """What it takes of its host's own disk."""
        return 0 if self.active.pool else self.size_gib

    @property
    def held(self) -> "list[Attachment]":
        """As what it is attached, the oldest first. Of one whose `attachments` were fetched along: no query."""
        return sorted(self.attachments.all(), key=attrgetter("created_at", "pk"))

    @property
    def serial(self) -> str:
        """By which a guest finds it: /dev/disk/by-id/virtio-<serial>."""
        return self.pk.hex[:20]


class Snapshot(models.Model):
    """What was on a volume at one moment."""

    class Consistency(models.TextChoices):
        """What it is worth: as after a power cut, or with the guest's filesystems at rest."""

        CRASH = "crash"
        FILESYSTEM = "filesystem"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="snapshots")
    name = NameField()
    labels = models.JSONField(default=dict, blank=True)
    volume = models.ForeignKey(Volume, on_delete=models.PROTECT, related_name="snapshots")
    layer = models.ForeignKey(Layer, on_delete=models.PROTECT, related_name="snapshots")
    size_gib = models.PositiveIntegerField()
    consistency = models.CharField(max_length=10, choices=Consistency.choices, blank=True)  # blank: not taken yet
    protected = models.BooleanField(default=False)
    created_by = models.CharField(max_length=80)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="snapshot_name_is_unique_in_project"),
        ]
        indexes = [GinIndex(fields=["labels"], name="snapshot_labels", opclasses=["jsonb_path_ops"])]

    def __str__(self) -> str:
        return self.name


class Attachment(models.Model):
    """A volume as a disk of its holder (docs/decisions/0014). Detaching deletes the row.

    A volume has one holder that may write, or several that all only read: then it stays as it is meanwhile.

    `wanted` false: the holder is to let go of it; then the row goes. `key`: with which the holder's host reaches a
    volume that a storage host serves, in hexadecimal; only hosts are told.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    volume = models.ForeignKey(Volume, on_delete=models.PROTECT, related_name="attachments")
    holder_type = models.CharField(max_length=40)
    holder_id = models.UUIDField()
    holder_name = models.CharField(max_length=63)  # a copy, for people
    slot = models.PositiveSmallIntegerField()  # 0: it boots from there; 1: /dev/vdb, 2: /dev/vdc …
    read_only = models.BooleanField(default=False)
    delete_with_holder = models.BooleanField(default=False)
    wanted = models.BooleanField(default=True)
    key = models.CharField(max_length=64, blank=True, db_default="")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["volume"], condition=Q(read_only=False), name="volume_is_attached_once"),
            models.UniqueConstraint(
                fields=["volume", "holder_type", "holder_id"], name="holder_has_a_volume_in_one_slot"
            ),
            models.UniqueConstraint(fields=["holder_type", "holder_id", "slot"], name="holder_has_one_volume_a_slot"),
            models.CheckConstraint(condition=Q(slot__lte=MAX_SLOT), name="attachment_slot_is_possible"),
        ]

    def __str__(self) -> str:
        return f"{self.volume} of {self.holder_name}"

    @property
    def project_id(self) -> uuid.UUID:
        return self.volume.project_id
