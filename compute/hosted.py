"""Instances on their hosts: how the wish is rendered, and what is done with what a host sees."""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models.functions import Now

from cloud.events.services import GUEST, SYSTEM, Actor, record
from cloud.hosts import orders
from cloud.hosts.models import Host, Order
from cloud.hosts.resources import Accepted, HostedResource, Outdated, Report, register
from cloud.hosts.room import offer_room
from cloud.operations.models import Operation
from compute import generations, reconcile, services
from compute.models import Allocation, Instance, Power, RestartPolicy
from compute.workflows import RebootInstance

RESTARTS_PER_HOUR = 5
GRACE_SECONDS = 30  # that a guest has to switch itself off, when nobody said otherwise
HOST_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{68}")


def spec(instance_id: UUID, verb: str) -> dict[str, Any]:
    """An instance's whole wish as its host gets it. Of a deleted one there is only the id left."""
    instance = Instance.objects.select_related("image", "project").filter(pk=instance_id).first()
    if instance is None:
        return {"id": str(instance_id)}
    live = Operation.objects.filter(subject_type="instance", subject_id=instance.pk, finished_at=None).first()
    asked = live.parameters if live and not live.outcome else {}
    is_reboot = live is not None and live.kind == RebootInstance.kind and bool(asked)
    return {
        "id": str(instance.pk),
        "name": instance.name,
        "project": {"id": str(instance.project_id), "name": instance.project.name},
        "generation": instance.generation,
        "hypervisor": instance.hypervisor,
        "architecture": instance.image.architecture,
        "vcpus": instance.vcpus,
        "memory_mib": instance.memory_mib,
        "disk_gib": instance.disk_gib,
        "reboot": {"nonce": str(live.pk), "hard": asked["hard"]} if live and is_reboot else None,
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
            "files": instance.boot_files,
            "kernel_command_line": instance.kernel_command_line,
        },
        "seed": {
            "instance_id": str(instance.pk),
            "hostname": instance.name,
            "ssh_authorized_keys": [key["public_key"] for key in instance.keypairs],
            "user_data": instance.user_data,
        },
        "nics": [],
    }


def owned(host: Host, ids: Iterable[UUID]) -> set[UUID]:
    """Which of these a host should have: what is placed there, and what it has orders to remove."""
    wanted = list(ids)
    placed = Instance.objects.filter(host=host, pk__in=wanted).values_list("pk", flat=True)
    ordered = Order.objects.filter(host=host, resource_type="instance", resource_id__in=wanted, answered_at=None)
    return {*placed, *ordered.values_list("resource_id", flat=True)}


def record_sighting(report: Report) -> Accepted | Outdated:
    """Write what a host sees of an instance; called under the operation's lock."""
    instance = Instance.objects.select_for_update().filter(pk=report.resource_id).first()
    if instance is None:
        return _record_tombstone(report)
    if instance.host_id != report.host.pk:
        return Outdated(instance.generation)
    if "refused" in report.facts:
        return _overtake(instance, report)
    if report.generation != instance.generation or report.sequence <= instance.seen_sequence:
        return Outdated(instance.generation)
    before = instance.seen_power
    instance.seen_power = report.seen
    instance.seen_generation = report.generation
    instance.seen_sequence = report.sequence
    instance.seen_problem = str(report.facts.get("problem") or "")[:2000]
    instance.seen_facts = report.facts
    instance.seen_at = Now()
    if HOST_KEY.fullmatch(key := str(report.facts.get("ssh_host_key", ""))):
        instance.ssh_host_key = key
    instance.save()
    if before != report.seen:
        record(
            "compute.instance.seen",
            instance,
            actor=Actor(f"host {report.host.name}"),
            before={"power": before},
            after={"power": report.seen, "problem": instance.seen_problem},
        )
    if report.seen == Power.STOPPED and instance.wanted_power in (Power.RUNNING, Power.PAUSED):
        _ended_by_itself(instance, report.facts)
    return Accepted()


def _record_tombstone(report: Report) -> Accepted | Outdated:
    """A deleted instance: only that it is gone matters; then its capacity is free again."""
    if report.seen != Power.GONE:
        return Outdated(0)
    Allocation.objects.filter(pk=report.resource_id, host=report.host, instance=None).delete()
    offer_room()
    return Accepted()


def _overtake(instance: Instance, report: Report) -> Outdated:
    """The host's ledger is ahead: after a restored database, wish again with a number that it will take."""
    ledger = int(report.facts["refused"].get("ledger_generation", 0))
    if ledger > instance.generation:
        if generations.catch_up(instance, ledger):
            live = Order.objects.filter(
                host=report.host, resource_type="instance", resource_id=instance.pk, answered_at=None
            ).first()
            if live:
                orders.post(report.host, "instance", instance.pk, live.verb, instance.generation)
        else:
            Host.objects.filter(pk=report.host.pk).update(
                quarantined=f"its ledger names generation {ledger} of an instance at {instance.generation}"
            )
    return Outdated(instance.generation)


def hint(host: Host) -> None:
    """Have open pages look again at the instances on a host."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT pg_notify('hints', json_build_object('project', project_id, 'type', 'instance', 'id', id)::text)
            FROM compute_instance WHERE host_id = %s
            """,
            [host.pk],
        )


def _ended_by_itself(instance: Instance, facts: dict[str, Any]) -> None:
    """It should run and does not: the guest powered it off, or it crashed, or its host went down under it."""
    cause = facts.get("cause")
    if cause == "guest" and instance.restart_policy != RestartPolicy.ALWAYS:
        _stay_stopped(instance, GUEST)
        return
    if services.is_busy(instance):
        return
    if cause != "reboot":
        if instance.restart_policy == RestartPolicy.NEVER:
            _stay_stopped(instance, SYSTEM)
            return
        if not _may_restart(instance):
            instance.seen_power, instance.wanted_power = Power.BROKEN, Power.STOPPED
            instance.seen_problem = (
                f"It ended {RESTARTS_PER_HOUR} times within an hour and is not started again by itself: "
                f"{instance.seen_problem or 'no reason is known'}"
            )
            instance.save()
            return
    services.start(instance=instance, actor=SYSTEM)


def _stay_stopped(instance: Instance, actor: Actor) -> None:
    instance.wanted_power = Power.STOPPED
    instance.save(update_fields=["wanted_power"])
    generations.raise_generation(instance)
    Instance.objects.filter(pk=instance.pk).update(seen_generation=instance.generation)
    record("compute.instance.power_off", instance, actor=actor, before={"wanted_power": "running"},
           after={"wanted_power": "stopped", "by": actor.name})  # fmt: skip


def _may_restart(instance: Instance) -> bool:
    """Note one more restart by policy, unless this hour has had its share."""
    now = Instance.objects.filter(pk=instance.pk).values_list(Now(), flat=True).get()
    recent = [at for at in instance.restarted_at if datetime.fromisoformat(at) > now - timedelta(hours=1)]
    if len(recent) >= RESTARTS_PER_HOUR:
        return False
    instance.restarted_at = [*recent, now.isoformat()]
    instance.save(update_fields=["restarted_at"])
    return True


register(
    HostedResource(
        type="instance",
        spec=spec,
        record=record_sighting,
        owned=owned,
        reconcile=reconcile.reconcile,
        hint=hint,
    )
)
