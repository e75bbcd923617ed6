"""Changes of an instance's power."""

from cloud.events.services import Actor
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.operations.workflow import Workflow
from cloud.tenancy import quota
from compute import first_volumes, networking, why_not
from compute.models import Instance, Power
from compute.services.problems import require
from compute.services.wishes import record_verb, wish
from compute.sizes import ROOM
from compute.workflows import (
    LaunchClone,
    LaunchInstance,
    PauseInstance,
    RebootInstance,
    ResumeInstance,
    StartInstance,
    StopInstance,
    SuspendInstance,
)


def start(*, instance: Instance, actor: Actor) -> Operation:
    """Wish it running, from whatever state: what is paused or suspended goes on with its memory, as by `resume`.

    After a failed launch this is the retry, and quota is asked again.
    """
    if instance.failed_at:
        quota.require(instance.project, instances=1, **{kind: getattr(instance, kind) for kind in ROOM})
    networking.plug_again(instance, actor)
    first_volumes.attach_again(instance, actor)
    workflow: type[Workflow] = LaunchInstance if instance.host_id is None else StartInstance
    if instance.clone_of_snapshot:
        workflow = LaunchClone
    operation = engine.start(workflow, instance, actor=actor)
    # What should run and does not goes back to standing still, not to being started again and again.
    before = Power.STOPPED if instance.wanted_power == Power.RUNNING else Power(instance.wanted_power)
    wish(operation, instance, Power.RUNNING, before=before, failed_at=None, failed_reason="")
    record_verb("start", instance, actor)
    return operation


def stop(*, instance: Instance, actor: Actor, force: bool = False, grace_seconds: int = 30) -> Operation:
    """Wish it stopped: asked politely by ACPI, forced when the grace is over, or at once with `force`.

    Raises WrongState for one that is suspended, unless forced: its memory is lost.
    """
    how = {"force": force, "grace_seconds": grace_seconds}
    operation = engine.start(StopInstance, instance, actor=actor, parameters=how)
    if instance.wanted_power == Power.SUSPENDED and not force:
        require(instance, "It is suspended; stopping it loses its memory. Resume it, or stop it by force.")
    wish(operation, instance, Power.STOPPED)
    record_verb("stop", instance, actor, force=force)
    return operation


def reboot(*, instance: Instance, actor: Actor, hard: bool = False) -> Operation:
    """Once round: by the guest itself, or like the reset button. Raises WrongState unless it should be running."""
    operation = engine.start(RebootInstance, instance, actor=actor, parameters={"hard": hard})
    require(instance, why_not.reboot(instance))
    wish(operation, instance, Power.RUNNING)
    record_verb("reboot", instance, actor, hard=hard)
    return operation


def pause(*, instance: Instance, actor: Actor) -> Operation:
    """Let it stand still; it keeps its memory, and its place. Raises WrongState."""
    operation = engine.start(PauseInstance, instance, actor=actor)
    require(instance, why_not.pause(instance))
    wish(operation, instance, Power.PAUSED)
    record_verb("pause", instance, actor)
    return operation


def suspend(*, instance: Instance, actor: Actor) -> Operation:
    """Let it stand still with its memory on its host's disk, where it outlives the host's reboot. Raises WrongState."""
    operation = engine.start(SuspendInstance, instance, actor=actor)
    require(instance, why_not.suspend(instance))
    wish(operation, instance, Power.SUSPENDED)
    record_verb("suspend", instance, actor)
    return operation


def resume(*, instance: Instance, actor: Actor) -> Operation:
    """Let it go on where it was paused or suspended. Raises WrongState."""
    operation = engine.start(ResumeInstance, instance, actor=actor)
    require(instance, why_not.resume(instance))
    wish(operation, instance, Power.RUNNING)
    record_verb("resume", instance, actor)
    return operation
