"""Images: what instances are launched from, and the projects that one is shared with."""

import uuid
from typing import Any, Self

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Case, Exists, OuterRef, Q, Value, When
from django.db.models.functions import Now

from cloud.api.fields import by_reference
from cloud.tenancy.models import NameField, Project

MIB, GIB = 1024**2, 1024**3


class ImageQuerySet(models.QuerySet["Image"]):
    def of(self, project: Project) -> Self:
        """What a project may use: its own images, public ones, and those that others share with it."""
        return self.seen_by(project).filter(trashed_at=None)

    def seen_by(self, project: Project) -> Self:
        """As `of`, with those in the trash."""
        shared = ImageShare.objects.filter(image=OuterRef("pk"), project=project)
        seen = Q(project=project) | Q(visibility=Image.Visibility.PUBLIC) | Q(Exists(shared))
        return self.filter(seen)

    def by_preference(self, project: Project) -> Self:
        """The best first, for a name that several have: its own before public ones before shared ones, then the
        newest that is ready and not deprecated. Nobody can put an image of theirs before another's public one.
        """
        public = When(visibility=Image.Visibility.PUBLIC, then=Value(1))
        own = When(project=project, then=Value(0))
        return self.annotate(
            nearness=Case(own, public, default=Value(2), output_field=models.IntegerField()),
            is_not_ready=Case(When(status=Image.Status.READY, then=Value(0)), default=Value(1)),
            is_deprecated=Case(When(deprecated_at__lte=Now(), then=Value(1)), default=Value(0)),
        ).order_by("nearness", "is_not_ready", "is_deprecated", "-created_at", "-pk")

    def by_reference(self, reference: str) -> Self:
        """For `cloud.api.fields.find`: what an id, `name`, or `name:version` means; of several, the first in this
        query's order."""
        name, colon, version = reference.partition(":")
        if "\x00" in version:
            return self.none()
        if not colon or version == "latest":
            return by_reference(self, name)  # type: ignore[return-value]
        return by_reference(self, name).filter(version=version)  # type: ignore[return-value]


class Image(models.Model):
    """A guest to launch. Without a project it is the cloud's own, and shown in every project.

    Several of one name are versions of it; who asks for the name gets the newest that is ready and not deprecated.
    """

    class Architecture(models.TextChoices):
        X86_64 = "x86_64"
        AARCH64 = "aarch64"
        RISCV64 = "riscv64"

    class Status(models.TextChoices):
        WAITING = "waiting"  # for its content to be uploaded
        IMPORTING = "importing"
        READY = "ready"
        FAILED = "failed"
        DELETING = "deleting"

    class Visibility(models.TextChoices):
        PRIVATE = "private"
        SHARED = "shared"  # with the projects that ImageShare names
        PUBLIC = "public"

    class Firmware(models.TextChoices):
        BIOS = "bios"
        UEFI = "uefi"

    class MachineType(models.TextChoices):
        Q35 = "q35"
        PC = "pc"  # i440FX, for guests without PCI Express
        VIRT = "virt"  # what arm64 and RISC-V have

    class DiskBus(models.TextChoices):
        VIRTIO = "virtio"
        SCSI = "scsi"
        SATA = "sata"
        IDE = "ide"

    class NicBus(models.TextChoices):
        VIRTIO = "virtio"
        E1000E = "e1000e"
        E1000 = "e1000"
        RTL8139 = "rtl8139"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, null=True, blank=True, on_delete=models.PROTECT, related_name="images")
    name = NameField()
    version = models.CharField(max_length=80, blank=True)
    labels = models.JSONField(default=dict, blank=True)
    description = models.CharField(max_length=500, blank=True)
    visibility = models.CharField(max_length=7, choices=Visibility.choices, default=Visibility.PRIVATE)
    protected = models.BooleanField(default=False, db_default=False)
    trashed_at = models.DateTimeField(null=True)  # since when it waits in the trash to be deleted for good
    deprecated_at = models.DateTimeField(null=True)  # from then on its name means another version

    status = models.CharField(max_length=9, choices=Status.choices, default=Status.READY, db_default=Status.READY)
    reason = models.TextField(blank=True, default="", db_default="")  # why it failed, or what it waits for
    source = models.JSONField(default=dict, db_default={})  # {"kind": "upload" | "url" | "layer" | "built", …}
    found = models.JSONField(default=dict, db_default={})  # what was inside, as the host that looked says
    size_gib = models.PositiveIntegerField(default=0, db_default=0)  # that it counts in its project's quota

    os = models.CharField(max_length=40, default="linux")
    architecture = models.CharField(max_length=8, choices=Architecture.choices)
    hypervisors = ArrayField(models.CharField(max_length=20))
    # "": what the hypervisor takes by itself.
    firmware = models.CharField(max_length=4, choices=Firmware.choices, blank=True, default="", db_default="")
    machine_type = models.CharField(max_length=4, choices=MachineType.choices, blank=True, default="", db_default="")
    disk_bus = models.CharField(max_length=6, choices=DiskBus.choices, blank=True, default="", db_default="")
    nic_bus = models.CharField(max_length=7, choices=NicBus.choices, blank=True, default="", db_default="")
    min_disk_gib = models.PositiveIntegerField(default=1)
    min_memory_mib = models.PositiveIntegerField(default=64)
    default_user = models.CharField(max_length=32, default="root")
    cloud_init = models.BooleanField(default=False, db_default=False)  # whether it has a full one
    kernel_command_line = models.CharField(max_length=1000, blank=True)
    files = models.JSONField(default=list)  # [{"role", "sha256", "size", "format"}]; of disks also index, virtual_bytes
    created_at = models.DateTimeField(db_default=Now())

    objects = ImageQuerySet.as_manager()
    reference: str  # what `choices_of` says to call it by

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "name", "version"],
                condition=Q(trashed_at=None),
                name="image_version_is_unique_in_project",
            ),
            models.UniqueConstraint(
                fields=["name", "version"],
                condition=Q(project__isnull=True, trashed_at=None),
                name="image_version_of_cloud_is_unique",
            ),
            models.CheckConstraint(
                condition=Q(project__isnull=False) | Q(visibility="public"), name="image_of_cloud_is_public"
            ),
            models.CheckConstraint(
                condition=Q(status__in=["waiting", "importing", "ready", "failed", "deleting"]),
                name="image_status_is_known",
            ),
        ]
        indexes = [GinIndex(fields=["labels"], name="image_labels", opclasses=["jsonb_path_ops"])]

    def __str__(self) -> str:
        return self.name

    @property
    def exactly(self) -> str:
        """A reference that means this version, whatever others come."""
        return str(self.pk) if self.version else self.name

    @property
    def is_ready(self) -> bool:
        return self.status == Image.Status.READY

    @property
    def is_cdrom(self) -> bool:
        """Whether it is an ISO alone: a machine starts from it with an empty disk."""
        return {file["role"] for file in self.files} == {"cdrom"}

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file["size"] for file in self.files)

    @property
    def boot_files(self) -> list[dict[str, Any]]:
        """What a machine boots from: everything but further disks."""
        return [file for file in self.files if file not in self.disks[1:] or file is self.disks[0]]

    @property
    def disks(self) -> list[dict[str, Any]]:
        """The files of its disks: machines boot from the first, further ones are volumes of theirs."""
        return [file for file in self.files if file["role"] == "disk"]

    @property
    def has_own_kernel(self) -> bool:
        """Whether its kernel is a file, so that it needs no firmware to start."""
        return any(file["role"] == "kernel" for file in self.files)

    @property
    def hardware(self) -> dict[str, Any]:
        """What a machine that boots it should look like; "" is what the hypervisor takes by itself."""
        return {name: getattr(self, name) for name in ("firmware", "machine_type", "disk_bus", "nic_bus")}


class ImageShare(models.Model):
    """A project that may use another project's image."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    image = models.ForeignKey(Image, on_delete=models.CASCADE, related_name="shares")
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["image", "project"], name="image_is_shared_once_with_a_project"),
        ]

    def __str__(self) -> str:
        return f"{self.image} with {self.project}"
