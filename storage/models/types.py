"""Types of volumes: how fast they are, and their prices."""

import uuid

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from cloud.tenancy.models import NameField, Project

MIN_IOPS = 10  # with fewer no guest gets anywhere
MAX_IOPS = 1_000_000
MAX_MIB_PER_SECOND = 100_000


class PoolKind(models.TextChoices):
    """What a pool is: a folder that hosts share, a pool of a Ceph cluster, or what one storage host serves by NBD."""

    FOLDER = "folder"
    CEPH = "ceph"
    NBD = "nbd"


class VolumeType(models.Model):
    """What tenants choose a volume's speed and price by. New volumes are of the default one, unless they say another.

    `public`: every project may use it; otherwise those of `projects`. A limit that is null is none. `pool`: the place
    that several hosts reach in which its volumes are, or the storage host that serves them; null: the disk of one host.
    """

    WITH_READERS = ("", PoolKind.FOLDER)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = NameField(unique=True)
    description = models.CharField(max_length=255, blank=True)
    labels = models.JSONField(default=dict, blank=True)
    iops = models.PositiveIntegerField(null=True, blank=True)  # reads and writes a second
    mib_per_second = models.PositiveIntegerField(null=True, blank=True)  # read and written
    price_per_gib_hour = models.DecimalField(max_digits=7, decimal_places=6, default=0)
    pool = models.UUIDField(null=True, blank=True)
    pool_kind = models.CharField(max_length=10, choices=PoolKind.choices, blank=True, db_default="")
    served_by = models.UUIDField(null=True, editable=False)  # the id of the storage host, also after that has gone
    enabled = models.BooleanField(default=True)
    public = models.BooleanField(default=True)
    projects = models.ManyToManyField(Project, related_name="+", blank=True)
    is_default = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"], condition=Q(is_default=True), name="one_default_volume_type"
            ),
            models.CheckConstraint(
                condition=Q(is_default=False) | Q(enabled=True, public=True),
                name="default_volume_type_is_for_everybody",
            ),
            models.CheckConstraint(
                condition=Q(iops=None) | Q(iops__gte=MIN_IOPS, iops__lte=MAX_IOPS), name="volume_type_iops_are_possible"
            ),
            models.CheckConstraint(
                condition=Q(mib_per_second=None) | Q(mib_per_second__gte=1, mib_per_second__lte=MAX_MIB_PER_SECOND),
                name="volume_type_bandwidth_is_possible",
            ),
            models.CheckConstraint(condition=Q(price_per_gib_hour__gte=0), name="volume_type_price_is_not_negative"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def in_ceph(self) -> bool:
        return self.pool_kind == PoolKind.CEPH

    @property
    def is_served(self) -> bool:
        """Whether its volumes stay on the disk of one storage host, and are attached to instances anywhere."""
        return self.pool_kind == PoolKind.NBD

    @property
    def has_readers(self) -> bool:
        """Whether several instances of one host may have a volume of it at a time, as long as all of them only read."""
        return self.pool_kind in self.WITH_READERS

    @property
    def shared_pool(self) -> uuid.UUID | None:
        """The pool of its volumes' layers: None where one host has them on its disk."""
        return None if self.is_served else self.pool

    @property
    def limits(self) -> dict[str, int | None] | None:
        """As hosts are told: what a guest may do with such a disk; None: as much as it can."""
        if self.iops is None and self.mib_per_second is None:
            return None
        return {"iops": self.iops, "bytes_per_second": self.mib_per_second and self.mib_per_second << 20}
