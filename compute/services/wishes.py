"""How a service changes what is wanted of an instance, and what it leaves in the log of events."""

from typing import Any

from cloud.events.services import Actor, record
from cloud.operations.models import Operation
from compute.models import Instance, Power


def wish(
    operation: Operation, instance: Instance, power: Power, *, before: Power | None = None, **changes: Any
) -> None:
    """Change what is wanted of it, under its lock, with a new generation. The operation is locked already.

    The operation remembers the power that giving up leads back to: `before`, or what is wanted until now.
    """
    locked = Instance.objects.select_for_update(of=("self",)).select_related("machine__host").get(pk=instance.pk)
    operation.before = {"wanted_power": before or locked.wanted_power}
    operation.save(update_fields=["before"])
    Instance.objects.filter(pk=instance.pk).update(wanted_power=power, gave_up="", **changes)
    locked.raise_generation()
    instance.machine, instance.wanted_power = locked.machine, power


def record_verb(verb: str, instance: Instance, actor: Actor, **facts: Any) -> None:
    record(
        f"compute.instance.{verb}",
        instance,
        actor=actor,
        before={"seen_power": instance.seen},
        after={"wanted_power": instance.wanted_power, **facts},
    )
