"""How a service changes what is wanted of an instance, and what it leaves in the log of events."""

from typing import Any

from cloud.events.services import Actor, record
from compute.generations import raise_generation
from compute.models import Instance, Power


def wish(instance: Instance, power: Power, **changes: Any) -> None:
    """Change what is wanted of it, under its lock, with a new generation. The operation is locked already."""
    before = Instance.objects.select_for_update().get(pk=instance.pk).wanted_power
    Instance.objects.filter(pk=instance.pk).update(wanted_power=power, **{"power_before": before, **changes})
    raise_generation(instance)
    instance.wanted_power = power


def record_verb(verb: str, instance: Instance, actor: Actor, **facts: Any) -> None:
    record(
        f"compute.instance.{verb}",
        instance,
        actor=actor,
        before={"seen_power": instance.seen_power},
        after={"wanted_power": instance.wanted_power, **facts},
    )
