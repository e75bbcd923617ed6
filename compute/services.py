"""What may be done with instances. Each function is one transaction's work, called inside it, and ends in one event."""

from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import uuid4

from cloud.api.errors import Fault, Problem
from cloud.events.services import Actor, record
from cloud.hosts.models import Host
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.operations.workflow import Workflow
from cloud.tenancy import quota
from cloud.tenancy.models import Project
from compute import explaining, placement
from compute.generations import raise_generation
from compute.hypervisors import KINDS
from compute.models import Flavor, Instance, KeyPair, Power, RestartPolicy
from compute.workflows import (
    DeleteInstance,
    LaunchClone,
    LaunchInstance,
    PauseInstance,
    RebootInstance,
    ResumeInstance,
    StartInstance,
    StopInstance,
    SuspendInstance,
)
from storage.models import Image


class NoCapacity(Problem):
    """No host can take the instance."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "no_capacity"
    title: ClassVar[str] = "No host has room for this instance"
    fix_by: ClassVar[Any] = "operator"


class UnfitLaunch(Problem):
    """The parts of a launch do not fit together; `errors` names every one."""

    title: ClassVar[str] = "The instance cannot be launched like this"


class NamesTaken(Problem):
    """Of the names that a number of instances would get, some are not free."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "conflict"
    title: ClassVar[str] = "This is in conflict with what is there"


class WrongState(Problem):
    """The verb makes no sense in the state that the instance is in."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "conflict"
    title: ClassVar[str] = "Not possible in this state"


def launch(*, name: str, **wishes: Any) -> Instance:
    """Create an instance and begin to launch it: `launch_many` of one."""
    return launch_many(names=[name], **wishes)[0]


def numbered(name: str, count: int) -> list[str]:
    """What several instances launched together are called: web-1, web-2 …; a single one is just web."""
    return [name] if count == 1 else [f"{name}-{number}" for number in range(1, count + 1)]


def launch_many(
    *,
    project: Project,
    actor: Actor,
    names: Sequence[str],
    flavor: Flavor,
    image: Image,
    keypairs: Sequence[KeyPair] = (),
    user_data: str = "",
    labels: dict[str, str] | None = None,
    wanted_power: str = Power.RUNNING,
    restart_policy: str = RestartPolicy.ON_CRASH,
    hypervisor: str = "",
    host: Host | None = None,
    fail_fast: bool = False,
    dry_run: bool = False,
) -> list[Instance]:
    """Create instances that are alike and begin to launch them. Raises UnfitLaunch, OverQuota, NamesTaken, NoCapacity.

    What fits no empty host is refused at once; what would fit one waits for room, unless `fail_fast`.
    """
    _check_fit(flavor=flavor, image=image, hypervisor=hypervisor)
    count = len(names)
    quota.require(project, instances=count, vcpus=count * flavor.vcpus, memory_mib=count * flavor.memory_mib)
    if count > 1:
        check_names(project, names)
    launched = []
    for name in names:
        instance = Instance.objects.create(
            project=project,
            name=name,
            labels=labels or {},
            flavor=flavor,
            vcpus=flavor.vcpus,
            memory_mib=flavor.memory_mib,
            disk_gib=flavor.disk_gib,
            price_per_hour=flavor.price_per_hour,
            image=image,
            boot_files=image.files,
            kernel_command_line=image.kernel_command_line,
            hypervisor_wish=hypervisor,
            host_wish=host,
            keypairs=[{"name": key.name, "public_key": key.public_key} for key in keypairs],
            user_data=user_data,
            restart_policy=restart_policy,
            wanted_power=wanted_power,
            created_by=actor.name,
        )
        engine.start(LaunchInstance, instance, actor=actor)
        # Only what the first ones occupy shows where the next ones go: several are placed for good, also when dry.
        place(instance, fail_fast=fail_fast, allocate=count > 1 or not dry_run)
        record(
            "compute.instance.launch",
            instance,
            actor=actor,
            after={"name": name, "flavor": flavor.name, "image": image.name, "wanted_power": wanted_power},
        )
        launched.append(instance)
    return launched


def check_names(project: Project, names: Sequence[str]) -> None:
    """Name all that are taken; a single one is left to its constraint. The quota's lock keeps other launches away."""
    taken = Instance.objects.filter(project=project, name__in=names).order_by("created_at", "name")
    if found := list(taken.values_list("name", flat=True)):
        words = f"{', '.join(found)} {'is' if len(found) == 1 else 'are'} taken. Choose another name."
        raise NamesTaken(words, errors=[Fault("/name", words, "conflict")])


def _check_fit(*, flavor: Flavor, image: Image, hypervisor: str) -> None:
    faults = []
    if not flavor.enabled:
        faults.append(Fault("/flavor", f"{flavor.name} is not offered any more."))
    for unit, least, has in (
        ("GiB of disk", image.min_disk_gib, flavor.disk_gib),
        ("MiB of memory", image.min_memory_mib, flavor.memory_mib),
    ):
        if has < least:
            faults.append(Fault("/flavor", f"{image.name} needs {least} {unit}; {flavor.name} has {has}."))
    if hypervisor and hypervisor not in image.hypervisors:
        faults.append(Fault("/hypervisor", f"{image.name} runs under {', '.join(image.hypervisors)} only."))
    kinds = [KINDS[name] for name in ([hypervisor] if hypervisor else image.hypervisors)]
    if not any(kind.takes(vcpus=flavor.vcpus, memory_mib=flavor.memory_mib) for kind in kinds):
        kind = kinds[0]
        most = f"at most {kind.most_vcpus} vCPU and {kind.most_memory_mib} MiB of memory"
        faults.append(Fault("/flavor", f"{kind.name} takes {most}; {flavor.name} has more."))
    if faults:
        raise UnfitLaunch(" ".join(fault.message for fault in faults), errors=faults)


def place(instance: Instance, *, fail_fast: bool, allocate: bool) -> None:
    if placement.place(instance, allocate=allocate).host_id:
        return
    wish = placement.Wish.of(instance)
    if fail_fast or not explaining.fits_an_empty_host(wish):
        explanation = explaining.explain(wish)
        raise NoCapacity(explanation.summary, extra={"placement": explanation.for_tenant()})


def start(*, instance: Instance, actor: Actor) -> Operation:
    """Wish it running. After a failed launch this is the retry, and quota is asked again."""
    if instance.failed_at:
        quota.require(instance.project, instances=1, vcpus=instance.vcpus, memory_mib=instance.memory_mib)
    workflow: type[Workflow] = LaunchInstance if instance.host_id is None else StartInstance
    if instance.clone_of_snapshot:
        workflow = LaunchClone
    operation = engine.start(workflow, instance, actor=actor)
    # What should run and does not goes back to standing still, not to being started again and again.
    before = Power.STOPPED if instance.wanted_power == Power.RUNNING else Power(instance.wanted_power)
    wish(instance, Power.RUNNING, power_before=before, failed_at=None, failed_reason="")
    _record("start", instance, actor)
    return operation


def stop(*, instance: Instance, actor: Actor, force: bool = False, grace_seconds: int = 30) -> Operation:
    """Wish it stopped: asked politely by ACPI, forced when the grace is over, or at once with `force`.

    Raises WrongState for one that is suspended, unless forced: its memory is lost.
    """
    if instance.wanted_power == Power.SUSPENDED and not force:
        raise WrongState(f"{instance.name} is suspended; stopping it loses its memory. Resume it, or stop it by force.")
    operation = engine.start(StopInstance, instance, actor=actor)
    wish(instance, Power.STOPPED, stop_force=force, stop_grace_seconds=grace_seconds)
    _record("stop", instance, actor, force=force)
    return operation


def reboot(*, instance: Instance, actor: Actor, hard: bool = False) -> Operation:
    """Once round: by the guest itself, or like the reset button. Raises WrongState unless it should be running."""
    if instance.host_id is None or instance.wanted_power != Power.RUNNING:
        raise WrongState(f"{instance.name} is not running. Start it instead.")
    operation = engine.start(RebootInstance, instance, actor=actor)
    wish(instance, Power.RUNNING, reboot_nonce=uuid4(), reboot_hard=hard)
    _record("reboot", instance, actor, hard=hard)
    return operation


def pause(*, instance: Instance, actor: Actor) -> Operation:
    """Let it stand still; it keeps its memory, and its place. Raises WrongState."""
    require("pause", instance, Power.RUNNING, Power.PAUSED)
    operation = engine.start(PauseInstance, instance, actor=actor)
    wish(instance, Power.PAUSED)
    _record("pause", instance, actor)
    return operation


def suspend(*, instance: Instance, actor: Actor) -> Operation:
    """Let it stand still with its memory on its host's disk, where it outlives the host's reboot. Raises WrongState."""
    require("suspend", instance, Power.RUNNING, Power.PAUSED, Power.SUSPENDED)
    operation = engine.start(SuspendInstance, instance, actor=actor)
    wish(instance, Power.SUSPENDED)
    _record("suspend", instance, actor)
    return operation


def resume(*, instance: Instance, actor: Actor) -> Operation:
    """Let it go on where it was paused or suspended. Raises WrongState."""
    require("resume", instance, Power.PAUSED, Power.SUSPENDED, Power.RUNNING)
    operation = engine.start(ResumeInstance, instance, actor=actor)
    wish(instance, Power.RUNNING)
    _record("resume", instance, actor)
    return operation


def require(verb: str, instance: Instance, *powers: Power) -> None:
    if instance.host is None or instance.wanted_power not in powers:
        wanted = "paused or suspended" if verb == "resume" else "running"
        raise WrongState(f"{instance.name} is not {wanted}.")
    if verb != "resume" and not can(instance, verb):
        raise WrongState(f"{instance.hypervisor} on its host cannot {verb} machines.")


def can(instance: Instance, verb: str) -> bool:
    """Whether the hypervisor that runs it offers a verb, by what its host says."""
    return verb in facts(instance).get("verbs", [])


def facts(instance: Instance) -> dict[str, Any]:
    """What its host says of the hypervisor that runs it; {} while it has none."""
    kinds = instance.host.capabilities.get("hypervisors", {}) if instance.host else {}
    return dict(kinds.get(instance.hypervisor, {}))


def delete(*, instance: Instance, actor: Actor) -> Operation:
    """Remove it and everything that is only its own, whatever is under way. Deleting twice is no error."""
    live = engine.lock("instance", instance.pk)
    if live and live.kind == DeleteInstance.kind:
        return live
    operation = engine.start(DeleteInstance, instance, actor=actor)
    wish(instance, Power(instance.wanted_power))
    _record("delete", instance, actor)
    return operation


def update(
    *,
    instance: Instance,
    actor: Actor,
    name: str | None = None,
    labels: dict[str, str] | None = None,
    restart_policy: str | None = None,
) -> Instance:
    """Change what no host needs to hear of: name, labels, and what happens after a crash."""
    asked = {"name": name, "labels": labels, "restart_policy": restart_policy}
    after = {field: value for field, value in asked.items() if value is not None}
    instance = Instance.objects.select_for_update().get(pk=instance.pk)
    before = {field: getattr(instance, field) for field in after}
    for field, value in after.items():
        setattr(instance, field, value)
    if after:
        instance.save(update_fields=list(after))
    record("compute.instance.update", instance, actor=actor, before=before, after=after)
    return instance


def is_busy(instance: Instance) -> bool:
    return Operation.objects.filter(subject_type="instance", subject_id=instance.pk, finished_at=None).exists()


def wish(instance: Instance, power: Power, **changes: Any) -> None:
    """Change what is wanted of it, under its lock, with a new generation. The operation is locked already."""
    before = Instance.objects.select_for_update().get(pk=instance.pk).wanted_power
    Instance.objects.filter(pk=instance.pk).update(wanted_power=power, **{"power_before": before, **changes})
    raise_generation(instance)
    instance.wanted_power = power


def _record(verb: str, instance: Instance, actor: Actor, **facts: Any) -> None:
    record(
        f"compute.instance.{verb}",
        instance,
        actor=actor,
        before={"seen_power": instance.seen_power},
        after={"wanted_power": instance.wanted_power, **facts},
    )
