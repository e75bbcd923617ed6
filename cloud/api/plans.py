"""What a mutation would do or has done, as the events of its transaction tell it."""

from typing import Any

from django.db.models import Max

from cloud.events.models import CurrentTransaction, Event

CREATING = {"create", "launch"}  # the verbs of events that tell of something new


def last_event() -> int:
    """The latest event that this transaction has written so far."""
    return Event.objects.filter(transaction=CurrentTransaction()).aggregate(last=Max("id"))["last"] or 0


def changes_since(event_id: int) -> dict[str, list[dict[str, Any]]]:
    """What this transaction has created, changed and deleted, as its events tell it."""
    plan: dict[str, list[dict[str, Any]]] = {"created": [], "changed": [], "deleted": []}
    for event in Event.objects.filter(transaction=CurrentTransaction(), id__gt=event_id).order_by("id"):
        subject = {"type": event.subject_type, "id": event.subject_id, "name": event.subject_name}
        verb = event.action.rpartition(".")[2]
        if verb in CREATING:
            plan["created"].append({**subject, "after": event.after})
        elif verb == "delete":
            plan["deleted"].append({**subject, "before": event.before})
        else:
            plan["changed"].append({**subject, "before": event.before, "after": event.after})
    return plan
