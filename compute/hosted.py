"""Instances on their hosts: how what is wanted is rendered, and what follows from what a host sees."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from django.db.models import Q, QuerySet

from cloud.hosts.models import Host
from cloud.hosts.resources import HostedResource, Offers, register
from cloud.hosts.shapes import Maybe, moment
from cloud.operations.models import Operation
from cloud.queries import Prepared
from compute import (
    drain,  # noqa: F401 - its work is known wherever hosts are
    losing,
    moves,
    networking,
    reconcile,
    restarts,
    volumes,
)
from compute.models import Instance, Machine, Power
from compute.workflows import RebootInstance
from storage import files, holders, specs, uses
from storage.holders import HolderKind
from storage.models import Image

NEEDS_NO_SEED = {"ensure_stopped"}  # no guest reads it, and the next start brings it
GRACE_SECONDS = 30  # that a guest has to switch itself off, when nobody said otherwise
HOST_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{68}")


@Prepared
def _live(instance_id: Any) -> "QuerySet[Operation]":
    return Operation.objects.filter(subject_type="instance", subject_id=instance_id, finished_at=None)


def spec(machine: Machine, verb: str) -> dict[str, Any]:
    """What is wanted of an instance, as the host of one of its machines gets it: no more than the verb needs."""
    instance = machine.instance
    if verb == "ensure_gone":
        return {"id": str(instance.pk), "hypervisor": machine.hypervisor}
    live = _live.first(instance.pk)
    asked = live.parameters if live and not live.outcome else {}
    is_reboot = bool(asked) and live is not None and (live.kind == RebootInstance.kind or bool(asked.get("reboot")))
    seed_is_read = verb not in NEEDS_NO_SEED
    return {
        "id": str(instance.pk),
        "name": instance.name,
        "project": {"id": str(instance.project_id), "name": instance.project.name},
        "generation": machine.generation,
        "hypervisor": machine.hypervisor,
        "architecture": instance.image.architecture,
        "vcpus": instance.vcpus,
        "memory_mib": instance.memory_mib,
        "disk_gib": instance.disk_gib,
        "reboot": {"nonce": str(live.pk), "hard": asked.get("hard", False)} if live and is_reboot else None,
        "stop": {"force": asked.get("force", False), "grace_seconds": asked.get("grace_seconds", GRACE_SECONDS)},
        "snapshot": str(instance.snapshot) if instance.snapshot else None,
        "clone": {"machine": str(instance.cloned_from_id), "snapshot": str(instance.clone_of_snapshot)}
        if instance.clone_of_snapshot
        else None,
        "restart_policy": instance.restart_policy,
        "image": {
            "id": str(instance.image_id),
            "name": instance.image.name,
            "architecture": instance.image.architecture,
            "files": [*instance.boot_files, *(instance.cd.files if instance.cd else ())],
            "kernel_command_line": instance.kernel_command_line,
            "hardware": instance.hardware,
        },
        "seed": {
            "instance_id": str(instance.pk),
            "hostname": instance.name,
            "ssh_authorized_keys": [key["public_key"] for key in instance.keypairs],
            "user_data": instance.user_data if seed_is_read else "",
            "password_hash": _password_hash(instance) if seed_is_read else "",
            "password_reset": _password_reset(instance) if seed_is_read else None,
        },
        "cd_drive": instance.cd_drive,
        "cd_bus": instance.cd_bus,
        "volumes": specs.disks(volumes.HOLDER, instance.pk, machine.host_id),
        "arrival": moves.arrival(machine),
        "nics": networking.nics(instance, machine.host, leaving=asked.get("detach_port")),
    }


def _password_hash(instance: Instance) -> str:
    """Of its default user, for a guest that begins anew: what it was given last."""
    reset = instance.password_reset
    is_its = reset is not None and reset["user"] == instance.image.default_user
    return str(reset["hash"]) if reset and is_its else instance.password_hash


def _password_reset(instance: Instance) -> dict[str, Any] | None:
    """The last reset, for the seed. None once the guest agent has set it: a start would undo what the guest changed."""
    reset = instance.password_reset
    if not reset or reset.get("by_agent"):
        return None
    return {name: reset[name] for name in ("id", "user", "hash", "taken")}


def noticed(machine: Machine, before: str) -> None:
    """A report has been written: keep the guest's host key, and that it was told of its password; follow the restart
    policy when it ended by itself."""
    instance = machine.instance
    if instance.machine_id != machine.pk and machine.has_been_seen(Power.GONE):
        moves.forget(machine)
        return
    reset = instance.password_reset
    by_seed, by_agent = (machine.seen_facts.get(name) for name in ("password_reset", "password_set"))
    if reset and not reset["taken"] and reset["id"] in (by_seed, by_agent):
        instance.password_reset = {**reset, "taken": True, "by_agent": by_agent == reset["id"]}
        instance.save(update_fields=["password_reset"])
    key = str(machine.seen_facts.get("ssh_host_key", ""))
    if HOST_KEY.fullmatch(key) and key != instance.ssh_host_key:
        instance.ssh_host_key = key
        instance.save(update_fields=["ssh_host_key"])
    counts = machine.pk == instance.machine_id
    if counts and machine.seen == Power.STOPPED and instance.wanted_power in (Power.RUNNING, Power.PAUSED):
        restarts.ended_by_itself(machine)


def put_right() -> None:
    reconcile.reconcile()
    moves.reconcile()


def offers(capabilities: Mapping[str, Any]) -> Offers:
    """How a host can run instances, e.g. "qemu/x86_64" and "qemu/x86_64/kvm"; KVM is what accelerates."""
    names = set()
    for hypervisor, facts in capabilities.get("hypervisors", {}).items():
        for architecture, how in facts.get("architectures", {}).items():
            names.add(f"{hypervisor}/{architecture}")
            names.add(f"{hypervisor}/{architecture}/{how.get('accelerator') or 'tcg'}")
    return Offers(frozenset(names), any(name.endswith("/kvm") for name in names))


def boots_from(host: Host, sha256: str) -> bool:
    """Whether an instance that is on the host is made of this file, or has it in its CD drive."""
    file = [{"sha256": sha256}]
    made_of = Q(instance__boot_files__contains=file) | Q(instance__cd__files__contains=file)
    return Machine.objects.filter(made_of, host=host).exists()


def made_from(image: Image) -> QuerySet[Instance]:
    return Instance.objects.filter(Q(image=image) | Q(cd=image))


uses.register_user("instance", made_from)
files.register(boots_from)
holders.register(
    HolderKind(
        volumes.HOLDER,
        tell=volumes.tell,
        pending=volumes.pending,
        consistency=volumes.consistency,
        rests=volumes.rests,
        replaces_layers=volumes.replaces_layers,
        lose_root=losing.lose_root,
        is_given_up=losing.is_given_up,
    )
)
files.register_owner(partial(files.in_rows, Instance.objects.all(), "boot_files"))
register(
    HostedResource(
        type="instance",
        model=Machine,
        within="instance",
        project="instance__project_id",
        states=frozenset({Power.RUNNING, Power.PAUSED, Power.SUSPENDED, Power.STOPPED}),
        spec=spec,
        noticed=noticed,
        reconcile=put_right,
        offers=offers,
        lose=losing.lose,
        at_stake=losing.at_stake,
        related=("instance__image", "instance__project", "instance__cd"),
        unit="machine",
        seen_as="power",
        facts={
            "started_at": Maybe(moment),
            "volumes": {str: {}},
            "nics": [str],
            "cd": Maybe(str),
            "password_reset": Maybe(str),
            "password_set": Maybe(str),
            "ssh_host_key": Maybe(str),
            "snapshot": Maybe(str),
            **{f"{of}{name}": Maybe(str) for of in ("devices_", "snapshot_") for name in ("problem", "fix_by")},
        },
    )
)
