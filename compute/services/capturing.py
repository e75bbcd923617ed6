"""Images of instances: what is on the disk of one, for others to begin with."""

from typing import Any

from cloud.events.services import Actor
from cloud.operations import engine
from compute import why_not
from compute.models import Instance
from compute.services.problems import require
from storage.models import Image
from storage.services import captures


def create_image(*, instance: Instance, actor: Actor, name: str, **said: Any) -> Image:
    """Have its host make an image of its disk, also while it runs. `said`: version, description, labels.

    Raises WrongState, OverQuota, NoRoom, and Busy while it is being deleted.
    """
    live = engine.lock("instance", instance.pk)
    if live and live.kind == "compute.delete":
        raise engine.Busy.with_operation(live, instance.name)
    require(instance, why_not.create_image(instance))
    assert instance.host is not None
    image = instance.image
    return captures.begin(
        project=instance.project,
        actor=actor,
        name=name,
        source={"kind": "instance", "id": str(instance.pk), "name": instance.name},
        host=instance.host,
        gib=instance.disk_gib,
        boot_files=instance.boot_files,
        os=image.os,
        architecture=image.architecture,
        hypervisors=image.hypervisors,
        min_memory_mib=image.min_memory_mib,
        default_user=image.default_user,
        cloud_init=image.cloud_init,
        kernel_command_line=instance.kernel_command_line,
        **instance.hardware,
        **said,
    )
