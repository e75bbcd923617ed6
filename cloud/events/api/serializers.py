"""How an event is shown, in lists and in streams."""

from typing import Any

from rest_framework import serializers

from cloud.events.models import Event
from cloud.events.reading import Cursor, told_to_tenants


class EventSubjectSerializer(serializers.Serializer):
    """What was changed."""

    type = serializers.CharField()
    id = serializers.CharField()
    name = serializers.CharField()


class EventSerializer(serializers.Serializer):
    """One change: who did what to what, from what to what."""

    cursor = serializers.CharField(help_text="`?after=` and Last-Event-ID go on behind it.")
    at = serializers.DateTimeField()
    action = serializers.CharField(help_text="E.g. compute.instance.stop.")
    subject = EventSubjectSerializer()
    actor = serializers.CharField(
        help_text="A user's name, `host`, `guest` or `system`; in the log of the whole cloud `host <name>`."
    )
    before = serializers.DictField(allow_null=True)
    after = serializers.DictField(allow_null=True)
    project_id = serializers.UUIDField(allow_null=True)
    request_id = serializers.CharField()

    def to_representation(self, instance: Event) -> dict[str, Any]:
        return shown(instance, of_project=self.context["of_project"])


def shown(event: Event, *, of_project: bool) -> dict[str, Any]:
    """An event as JSON, in the log of its project or of the whole cloud."""
    return {
        "cursor": str(Cursor.of(event)),
        "at": event.at.isoformat().replace("+00:00", "Z"),
        "action": event.action,
        "subject": {"type": event.subject_type, "id": event.subject_id, "name": event.subject_name},
        "actor": told_to_tenants(event.actor) if of_project else event.actor,
        "before": event.before,
        "after": event.after,
        "project_id": str(event.project_id) if event.project_id else None,
        "request_id": event.request_id,
    }
