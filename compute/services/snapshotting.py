"""Snapshots of instances: what is on all of its disks, kept together."""

from cloud.events.services import Actor
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.problems import Invalid
from cloud.tenancy import quota
from compute import volumes, why_not
from compute.models import Instance
from compute.services.capturing import create_image
from compute.services.problems import require
from compute.services.wishes import record_verb
from compute.workflows import SnapshotInstance
from storage.services import captures
from storage.services.volumes import snapshot as snapshot_volume

MAX_NAME = 63  # characters
MAX_OWN_NAME = 40  # so that those of its volumes can be told apart


def snapshot(*, instance: Instance, actor: Actor, name: str = "", suffix: str = "snapshot") -> Operation:
    """Keep what is on its disks: an image of its own one, and a snapshot of each volume. All of them begin, or none.

    The image is called `name`, or as the instance is with a suffix; the snapshots also after their volumes.
    Raises Invalid for a name that is too long, WrongState, OverQuota, NoRoom, Conflict for a taken name, and Busy.
    """
    name = name or f"{instance.name}-{suffix}"
    if len(name) > MAX_OWN_NAME:
        raise Invalid(f"{name} is longer than {MAX_OWN_NAME} characters. Give {instance.name} a shorter name for it.")
    held = [one.volume for one in volumes.held_by(instance)]
    has_own_disk = not volumes.boots_from_volume(instance)
    image_needs = {"images": 1, "image_gib": captures.FIRST_GIB} if has_own_disk else {}
    quota.require(instance.project, snapshots=len(held), **image_needs)
    operation = engine.start(SnapshotInstance, instance, actor=actor)
    require(instance, why_not.snapshot(instance))
    image = create_image(instance=instance, actor=actor, name=name) if has_own_disk else None
    taken = [snapshot_volume(volume=one, actor=actor, name=f"{name}-{one.name}"[:MAX_NAME].rstrip("-")) for one in held]
    operation.parameters = {"image": str(image.pk) if image else None, "snapshots": [str(one.pk) for one in taken]}
    operation.save(update_fields=["parameters"])
    record_verb("snapshot", instance, actor, image=image and image.name, snapshots=[one.name for one in taken])
    return operation
