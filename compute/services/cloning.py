"""Clones: instances that go on from where another one is, with its memory and disk, each as somebody else.

The source keeps a snapshot for as long as its clones have not begun: that is the operation on it. They begin on its
host, which has the snapshot; what they are launched by is a launch that waits for it.
"""

from uuid import uuid4

from cloud.events.services import Actor, record
from cloud.operations import engine
from cloud.problems import Invalid
from cloud.tenancy import quota
from compute import networking, why_not
from compute.models import Instance, Power
from compute.services.launching import MAX_NAME, check_names, numbered, place
from compute.services.problems import require
from compute.services.wishes import wish
from compute.sizes import ROOM
from compute.workflows import CloneInstance, LaunchClone

COPIED = (
    "project", "labels", "flavor", "vcpus", "memory_mib", "disk_gib", "image", "boot_files", "kernel_command_line",
    "cd", "cd_bus", "cd_drive", "hardware", "keypairs", "user_data", "password_hash", "restart_policy",
)  # fmt: skip


def clone(*, instance: Instance, actor: Actor, name: str = "", suffix: str = "copy", count: int = 1) -> list[Instance]:
    """Begin to make clones of it, on its host. They are called `name`, or as it is with a suffix; several are numbered.

    Raises Invalid for names that are too long, WrongState, OverQuota, NamesTaken, NoCapacity.
    """
    name = name or f"{instance.name}-{suffix}"
    names = numbered(name, count)
    if len(names[-1]) > MAX_NAME:
        raise Invalid(f"{name} is longer than a name may be. Clone {instance.name} by itself.")
    project = instance.project
    quota.require(project, instances=count, **{kind: count * getattr(instance, kind) for kind in ROOM})
    check_names(project, names)
    operation = engine.start(CloneInstance, instance, actor=actor)
    require(instance, why_not.clone(instance))
    snapshot = uuid4()
    wish(operation, instance, Power(instance.wanted_power), snapshot=snapshot)
    record("compute.instance.clone", instance, actor=actor, after={"names": names})
    alike = networking.alike(instance)
    clones = []
    for each in names:
        made = Instance.objects.create(
            name=each,
            hypervisor_wish=instance.hypervisor,
            host_wish=instance.host,
            cloned_from=instance,
            clone_of_snapshot=snapshot,
            price_per_hour=instance.flavor.price_per_hour,
            network_wish=networking.kept(*alike),
            created_by=actor.name,
            **{field: getattr(instance, field) for field in COPIED},
        )
        networking.plug(made, actor, *alike)
        place(made, fail_fast=True, allocate=True)
        engine.start(LaunchClone, made, actor=actor, step="boot")
        after = {"name": each, "cloned_from": instance.name, "wanted_power": Power.RUNNING}
        record("compute.instance.launch", made, actor=actor, after=after)
        clones.append(made)
    return clones
