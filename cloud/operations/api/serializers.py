"""How an operation is shown, wherever it is: as an object of its own, or inside of the resource that it works on."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from cloud.operations.models import FixBy, Operation, Outcome

TIMES = ("cancel_requested_at", "started_at", "finished_at")


class SubjectSerializer(serializers.Serializer):
    """What an operation works on."""

    type = serializers.CharField()
    id = serializers.UUIDField()
    name = serializers.CharField()


class ProgressSerializer(serializers.Serializer):
    done = serializers.IntegerField()
    of = serializers.IntegerField()
    unit = serializers.CharField()


class OperationSerializer(serializers.Serializer):
    """A piece of work: what it does now, why it waits, how it ended. Takes a row, or the same made by PostgreSQL."""

    id = serializers.UUIDField()
    kind = serializers.CharField()
    subject = SubjectSerializer()
    step = serializers.CharField()
    progress = ProgressSerializer(allow_null=True)
    reason = serializers.CharField(help_text="Why it waits, or why it ended so.")
    outcome = serializers.ChoiceField(Outcome.choices, allow_null=True, help_text="Null while it is under way.")
    fix_by = serializers.ChoiceField(
        FixBy.choices, allow_null=True, help_text="Who can do something about what failed; `nobody`: try again."
    )
    cancel_requested_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    requested_by = serializers.CharField()

    def to_representation(self, instance: Operation | Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(instance, Operation):
            return shown(instance)
        return {**instance, **{name: instance[name] and instance[name].replace("+00:00", "Z") for name in TIMES}}


def shown(operation: Operation) -> dict[str, Any]:
    """An operation as JSON."""
    has_progress = operation.progress_of is not None
    progress = {"done": operation.progress_done, "of": operation.progress_of, "unit": operation.progress_unit}
    return {
        "id": str(operation.pk),
        "kind": operation.kind,
        "subject": {
            "type": operation.subject_type,
            "id": str(operation.subject_id),
            "name": operation.subject_name,
        },
        "step": operation.step,
        "progress": progress if has_progress else None,
        "reason": operation.reason,
        "outcome": operation.outcome or None,
        "fix_by": operation.fix_by or None,
        **{name: _moment(getattr(operation, name)) for name in TIMES},
        "requested_by": operation.requested_by,
    }


def _moment(moment: Any) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
