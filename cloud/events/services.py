"""Writing the event log. Call `record` inside the transaction of the change itself."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import JSONField, Model, Value

from cloud.events.models import Event
from cloud.saving import insert

MAX_FACTS = 8 * 1024  # characters of JSON: of what was before, and of what is after


@dataclass(frozen=True)
class Actor:
    """Who does something: a user, a host, a guest, or the cloud itself."""

    name: str
    user_id: UUID | None = None
    request_id: str = ""


SYSTEM = Actor("system")
GUEST = Actor("guest")


def record(
    action: str,
    subject: Model,
    *,
    actor: Actor,
    project_id: UUID | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> Event:
    """Note one change, e.g. `record("compute.instance.stop", instance, actor=…, before=…, after=…)`.

    The subject's type is the middle of the action; its project is taken from the subject where it has one.
    """
    project = project_id or getattr(subject, "project_id", None)
    event = Event(
        action=action,
        project_id=project,
        subject_type=action.split(".")[1],
        subject_id=str(subject.pk),
        subject_name=str(subject)[:255],
        actor_id=actor.user_id,
        actor=actor.name,
        before=_json(before),
        after=_json(after),
        request_id=actor.request_id,
    )
    insert(event)
    return event


def _json(facts: Mapping[str, Any] | None) -> Any:
    if facts is None:
        return None
    return Value(_bounded(dict(facts)), JSONField(encoder=DjangoJSONEncoder))


def _bounded(facts: dict[str, Any]) -> dict[str, Any]:
    """The same, with its longest values left out until the rest fits: nobody fills the log with what he writes."""
    sizes = {name: len(json.dumps(value, cls=DjangoJSONEncoder)) for name, value in facts.items()}
    for name in sorted(sizes, key=lambda each: -sizes[each]):
        if sum(sizes.values()) <= MAX_FACTS:
            break
        facts[name] = f"({sizes[name]} characters, too long for the log)"
        sizes[name] = len(facts[name])
    return facts
