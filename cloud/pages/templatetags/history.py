"""Operations and events, told in words: what happens, how far it is, what became of it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from cloud.events.reading import told_to_tenants
from cloud.pages import links, words

register = template.Library()
GOING, COMING = ("delete", "purge"), ("restore",)

register.filter("event_words", words.event)
register.filter("subject_words", words.subject)


@register.simple_tag
def page_of(subject_type: str, ident: Any, project: str = "", for_admins: bool = False) -> str:
    """The path of the page about a subject, in its project or (`for_admins`) of the cloud. "" if there is none."""
    return links.of(subject_type, ident, project) or links.of(subject_type, ident, for_admins=for_admins)


@register.filter
def operation_words(kind: str) -> str:
    return words.OPERATIONS.get(kind, kind.rpartition(".")[2].capitalize())


@register.simple_tag
def event_choices() -> dict[str, str]:
    """The verbs by which the log of events can be filtered, with their words."""
    return {**{verb: words.VERBS[verb] for verb in words.FILTERED}, **words.FILTERS}


@register.filter
def step_words(step: str) -> str:
    return words.STEPS.get(step, step.replace("_", " ").capitalize())


@register.filter
def changes(event: Any) -> list[tuple[str, str, str]]:
    return words.changes(event.before, event.after)


@register.filter
def changes_of(told: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Of a dry run's plan, what it would change of something: (field, before, after)."""
    return words.changes(told.get("before"), told.get("after"))


@register.filter
def steps(operation: Any) -> list[dict[str, Any]]:
    """What an operation has done and what it is at, as the lines of a timeline: one a step, with its last words."""
    lines: list[dict[str, Any]] = []
    for entry in operation.history:
        if lines and lines[-1]["step"] == entry["step"]:
            lines[-1]["reason"] = entry.get("reason", "")
        else:
            lines.append({"step": entry["step"], "at": entry.get("at", ""), "reason": entry.get("reason", "")})
    if not operation.finished_at and (not lines or lines[-1]["step"] != operation.step):
        lines.append({"step": operation.step, "at": "", "reason": operation.reason})
    for line in lines:
        line["state"] = "done"
        line["reason"] = "" if line is not lines[-1] else line["reason"]
    if lines:
        lines[-1]["state"] = "now" if not operation.finished_at else "done" if operation.outcome == "done" else "bad"
        lines[-1]["reason"] = operation.reason
    return lines


@register.filter
def dot(outcome: str) -> str:
    """The dot of work in a timeline, by how it ended."""
    return {"good": "done", "bad": "bad"}.get(words.TONES.get(outcome, ""), "")


@register.filter
def event_tone(event: Any) -> str:
    """The dot of an event: what ended well, what went wrong."""
    after, work = event.after or {}, getattr(event, "work", None)
    if work is not None:
        return dot(work.outcome)
    if event.action.endswith(".finish"):
        return "done" if after.get("outcome") == "done" else "bad" if after.get("outcome") == "failed" else ""
    if event.action.endswith(".seen"):
        return "bad" if "broken" in after.values() else ""
    return ""


@register.filter
def marked(events: Iterable[Any]) -> list[Any]:
    """Events, newest first, each with whether its subject has gone since, so that nothing leads there."""
    found = list(events)
    going: dict[str, bool] = {}
    for event in found:
        verb = event.action.rpartition(".")[2]
        if verb in GOING or verb in COMING:
            going.setdefault(event.subject_id, verb in GOING)
    for event in found:
        event.subject_is_gone = going.get(event.subject_id, False)
    return found


@register.filter
def sentence(event: Any, project: Any = None) -> SafeString:
    """An event as a sentence, with a link to what it is about."""
    name = event.subject_name or words.subject(event.subject_type)
    is_gone = getattr(event, "subject_is_gone", False)
    url = links.of(event.subject_type, event.subject_id, project.name) if project and not is_gone else ""
    if event.subject_type == "quota_request":
        subject = format_html('<span class="strong">{}</span>', words.limits_asked(name))
    elif url:
        subject = format_html('<a href="{}">{}</a>', url, name)
    else:
        subject = format_html('<span class="strong">{}</span>', name)
    actor = told_to_tenants(event.actor) if project else event.actor
    if tell := words.SENTENCES.get(event.action):
        return tell(words.Telling(event, subject, actor, event.after or {}, is_for_tenants=bool(project)))
    kind, verb = words.subject(event.subject_type), words.event(event.action)
    return format_html('<span class="strong">{}</span> {} the {} {}', actor, verb, kind, subject)


@register.filter
def took(start: datetime, end: datetime) -> str:
    return words.span(end - start)
