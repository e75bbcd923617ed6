"""How an operation is shown, wherever it is."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cloud.operations.models import Operation, Outcome


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
    """A piece of work: what it does now, why it waits, how it ended."""

    id = serializers.UUIDField()
    kind = serializers.CharField()
    subject = serializers.SerializerMethodField()
    step = serializers.CharField()
    progress = serializers.SerializerMethodField()
    reason = serializers.CharField(help_text="Why it waits, or why it ended so.")
    outcome = serializers.SerializerMethodField(help_text="Null while it is under way.")
    cancel_requested_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    requested_by = serializers.CharField()

    @extend_schema_field(SubjectSerializer)
    def get_subject(self, operation: Operation) -> dict[str, str]:
        return {
            "type": operation.subject_type,
            "id": str(operation.subject_id),
            "name": operation.subject_name,
        }

    @extend_schema_field(ProgressSerializer(allow_null=True))
    def get_progress(self, operation: Operation) -> dict[str, Any] | None:
        if operation.progress_of is None:
            return None
        return {"done": operation.progress_done, "of": operation.progress_of, "unit": operation.progress_unit}

    @extend_schema_field(serializers.ChoiceField(Outcome.choices, allow_null=True))
    def get_outcome(self, operation: Operation) -> str | None:
        return operation.outcome or None
