"""Instances, and the machines that they are on hosts."""

import uuid
from typing import Any, ClassVar

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from cloud.hosts.hosted import Hosted, raise_generation
from cloud.hosts.models import Host
from cloud.tenancy.models import NameField, Project
from compute.models.flavors import Flavor
from compute.models.power import WISHES, Power, RestartPolicy
from storage.models import Image


class Instance(models.Model):
    """A virtual machine as its tenant wants it. Its status is derived (compute.status).

    What it is on a host is its machine; `host`, `hypervisor` and `seen…` look through to it.
    """

    ABILITIES = ("freeze", "password")  # of guest agents

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
    )  # the flavor's, as it was at launch or at the latest resize
    image = models.ForeignKey(Image, on_delete=models.PROTECT, related_name="instances")
    boot_files = models.JSONField(default=list)  # the image's, as they were at launch: its disk goes with its kernel
    cd = models.ForeignKey(Image, null=True, on_delete=models.PROTECT, related_name="+")  # an ISO, in its CD drive
    cd_drive = models.BooleanField(default=False, db_default=False)  # whether it has one, from its next start on
    kernel_command_line = models.CharField(max_length=1000, blank=True)
    hardware = models.JSONField(default=dict, db_default={})  # the image's, as it was at launch: see Image.hardware
    cd_bus = models.CharField(max_length=10, default="", db_default="")  # of its CD drive; "": see cd_bus in hardware
    hypervisor_wish = models.CharField(max_length=20, blank=True)
    host_wish = models.ForeignKey(Host, null=True, on_delete=models.SET_NULL, related_name="+")
    placement = models.JSONField(null=True)  # the last decision, as compute.placement.Decision describes it
    machine = models.OneToOneField("Machine", null=True, on_delete=models.SET_NULL, related_name="+")  # that counts
    keypairs = models.JSONField(default=list)  # [{"name", "public_key"}], as they were at launch
    user_data = models.TextField(blank=True)
    password_hash = models.CharField(max_length=200, blank=True, db_default="")  # of its default user, at launch
    # The last reset: {"id", "user", "hash", "taken", "by_agent"}; `taken`: its host has told the guest; `by_agent`: the
    # agent has set it, so no seed has it. `by_agent` may be missing.
    password_reset = models.JSONField(null=True)
    network_wish = models.JSONField(null=True)  # what was asked for at launch, as compute.networking.kept describes it
    volume_wish = models.JSONField(default=list, db_default=[])  # the same of volumes: compute.first_volumes.kept
    restart_policy = models.CharField(max_length=8, choices=RestartPolicy.choices, default=RestartPolicy.ON_CRASH)

    wanted_power = models.CharField(max_length=9, choices=Power.choices, default=Power.RUNNING)
    snapshot = models.UUIDField(null=True)  # to be kept by its host, for clones that have yet to begin
    cloned_from = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="clones")
    clone_of_snapshot = models.UUIDField(null=True)  # of `cloned_from`, until it has begun
    ssh_host_key = models.CharField(max_length=200, blank=True, db_default="")  # that its host has given it

    protected = models.BooleanField(default=False, db_default=False)  # refuses to be deleted
    trashed_at = models.DateTimeField(null=True)  # since when it waits in the trash to be deleted for good
    failed_at = models.DateTimeField(null=True)
    failed_reason = models.TextField(blank=True)
    gave_up = models.TextField(
        blank=True, db_default=""
    )  # what the cloud tried by itself in vain: compute/giving_up.py
    restarted_at = models.JSONField(default=list)  # when policy started it again: RFC 3339, the last hour's
    created_by = models.CharField(max_length=80)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "name"], condition=Q(trashed_at=None), name="instance_name_is_unique_in_project"
            ),
            models.CheckConstraint(condition=Q(wanted_power__in=WISHES), name="wanted_power_is_a_wish"),
        ]
        indexes = [
            models.Index(fields=["project", "created_at", "id"], name="instance_by_project"),
            models.Index(fields=["created_at", "id"], name="instance_by_age", condition=Q(trashed_at=None)),
            GinIndex(fields=["labels"], name="instance_labels", opclasses=["jsonb_path_ops"]),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def host(self) -> Host | None:
        return self.machine.host if self.machine else None

    @property
    def host_id(self) -> uuid.UUID | None:
        return self.machine.host_id if self.machine else None

    @property
    def hypervisor(self) -> str:
        return self.machine.hypervisor if self.machine else ""

    @property
    def hypervisor_facts(self) -> dict[str, Any]:
        """What its host says of the hypervisor that runs it; {} while it has none."""
        kinds = self.host.capabilities.get("hypervisors", {}) if self.host else {}
        return dict(kinds.get(self.hypervisor, {}))

    @property
    def generation(self) -> int:
        """The number of what is wanted of its machine; 0 while it is placed nowhere."""
        return self.machine.generation if self.machine else 0

    @property
    def seen(self) -> str:
        if self.machine:
            return self.machine.seen
        return Power.GONE if self.failed_at else Power.UNKNOWN

    @property
    def seen_problem(self) -> str:
        return self.machine.seen_problem if self.machine else ""

    @property
    def seen_facts(self) -> dict[str, Any]:
        return self.machine.seen_facts if self.machine else {}

    @property
    def seen_at(self) -> Any:
        return self.machine.seen_at if self.machine else None

    def has_been_seen(self, *powers: str) -> bool:
        """Whether its machine was last seen in one of these states, by a report about its present generation."""
        return self.machine is not None and self.machine.has_been_seen(*powers)

    @property
    def guest_agent(self) -> dict[str, Any] | None:
        """The agent that answers in its guest: {"version", "can": some of ABILITIES}; None when none does."""
        found = self.seen_facts.get("guest_agent") if self.seen == Power.RUNNING else None
        if not isinstance(found, dict):
            return None
        known = found.get("can")
        can = [ability for ability in self.ABILITIES if isinstance(known, list) and ability in known]
        return {"version": str(found.get("version", ""))[:40], "can": can}

    @property
    def lacks_agent_channel(self) -> bool:
        """Whether no guest agent can answer until it is stopped and started: it was started by an older release."""
        runs = self.seen == Power.RUNNING and self.hypervisor == "qemu"
        return runs and not self.seen_facts.get("agent_channel")

    @property
    def password_waits(self) -> bool:
        """Whether a new password waits for the next start, at which its guest is told."""
        return self.password_reset is not None and not self.password_reset["taken"]

    def raise_generation(self) -> None:
        """What is wanted of it has changed: say so on the machine that counts. The instance must be locked.

        Another one is ordered by what made it or removes it, and only its reports of that generation count.
        """
        if self.machine:
            raise_generation(self.machine)


class Machine(Hosted):
    """What an instance is on one host. Hosts know it by the instance's id."""

    id_on_hosts: ClassVar[str] = "instance_id"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="machines")
    host = models.ForeignKey(Host, on_delete=models.PROTECT, related_name="machines")
    hypervisor = models.CharField(max_length=20)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["instance", "host"], name="one_machine_per_instance_and_host"),
            models.CheckConstraint(condition=Q(seen__in=Power.values), name="seen_of_a_machine_is_a_power"),
            models.CheckConstraint(condition=~Q(hypervisor=""), name="machine_has_a_hypervisor"),
        ]

    def __str__(self) -> str:
        return f"{self.instance} on {self.host}"
