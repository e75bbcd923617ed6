"""What is done when a machine ends without being told to: it stays stopped, or is started again by its policy."""

from datetime import datetime, timedelta

from django.db.models.functions import Now

from cloud.events.services import GUEST, SYSTEM, Actor, record
from cloud.hosts.hosted import raise_generation
from compute import giving_up, services
from compute.models import Instance, Machine, Power, RestartPolicy

MAX_RESTARTS_PER_HOUR = 5


def ended_by_itself(machine: Machine) -> None:
    """It should run and does not: the guest powered it off, or it crashed, or its host went down under it."""
    instance, cause = machine.instance, machine.seen_facts.get("cause")
    if cause == "guest" and instance.restart_policy != RestartPolicy.ALWAYS:
        _stay_stopped(machine, GUEST)
        return
    if services.is_busy(instance):
        return
    if cause != "reboot":
        if instance.restart_policy == RestartPolicy.NEVER:
            _stay_stopped(machine, SYSTEM)
            return
        if not _may_restart(instance):
            _stay_stopped(machine, SYSTEM)
            often = f"It ended {MAX_RESTARTS_PER_HOUR} times within an hour and is not started again by itself"
            giving_up.note(
                instance, f"{often}: {machine.seen_problem or 'no reason is known'}. To try again, start it."
            )
            return
    services.start(instance=instance, actor=SYSTEM)


def _stay_stopped(machine: Machine, actor: Actor) -> None:
    instance = machine.instance
    instance.wanted_power = Power.STOPPED
    instance.save(update_fields=["wanted_power"])
    raise_generation(machine)
    machine.seen_generation = machine.generation
    machine.save(update_fields=["seen_generation"])
    record("compute.instance.power_off", instance, actor=actor, before={"wanted_power": "running"},
           after={"wanted_power": "stopped", "by": actor.name})  # fmt: skip


def _may_restart(instance: Instance) -> bool:
    """Note one more restart by policy, unless this hour has had its share."""
    now = Instance.objects.filter(pk=instance.pk).values_list(Now(), flat=True).get()
    recent = [at for at in instance.restarted_at if datetime.fromisoformat(at) > now - timedelta(hours=1)]
    if len(recent) >= MAX_RESTARTS_PER_HOUR:
        return False
    instance.restarted_at = [*recent, now.isoformat()]
    instance.save(update_fields=["restarted_at"])
    return True
