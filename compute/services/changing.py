"""Changes that leave the power alone, and the end of an instance."""

from cloud.events.services import Actor, record
from cloud.operations import engine
from cloud.operations.models import Operation
from compute import networking, volumes
from compute.models import Instance, Power
from compute.services.wishes import record_verb, wish
from compute.workflows import DeleteInstance


def update(
    *,
    instance: Instance,
    actor: Actor,
    name: str | None = None,
    labels: dict[str, str] | None = None,
    restart_policy: str | None = None,
    protected: bool | None = None,
) -> Instance:
    """Change what no host needs to hear of: name, labels, what happens after a crash, and whether it may be deleted."""
    asked = {"name": name, "labels": labels, "restart_policy": restart_policy, "protected": protected}
    after = {field: value for field, value in asked.items() if value is not None}
    instance = Instance.objects.select_for_update().get(pk=instance.pk)
    before = {field: getattr(instance, field) for field in after}
    for field, value in after.items():
        setattr(instance, field, value)
    if after:
        instance.save(update_fields=list(after))
    if name is not None:
        networking.rename(instance)
        volumes.rename(instance)
    record("compute.instance.update", instance, actor=actor, before=before, after=after)
    return instance


def delete(*, instance: Instance, actor: Actor, verb: str = "delete") -> Operation:
    """Remove it and everything that is only its own for good, whatever is under way. Deleting twice is no error.

    What a user deletes goes through the trash: see `discard`. `verb` is what the log calls it.
    """
    live = engine.lock("instance", instance.pk)
    if live and live.kind == DeleteInstance.kind:
        return live
    operation = engine.start(DeleteInstance, instance, actor=actor)
    wish(operation, instance, Power(instance.wanted_power))
    record_verb(verb, instance, actor)
    return operation


def is_busy(instance: Instance) -> bool:
    return Operation.objects.filter(subject_type="instance", subject_id=instance.pk, finished_at=None).exists()
