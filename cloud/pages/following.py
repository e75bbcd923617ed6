"""What a form has begun, followed to its end: one toast that changes, whatever page the viewer is on meanwhile."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from cloud.api.scope import Scope
from cloud.operations.models import Operation, Outcome
from cloud.pages import links
from cloud.tenancy.models import Project

FOLLOWED = "followed"  # in the session
MAX_FOLLOWED = 10


@dataclass(frozen=True)
class Following:
    """A toast about work. `operation` is set when there is just one; `words` tell of its beginning."""

    id: str
    words: str
    is_live: bool
    tone: str
    undo: Mapping[str, Any] | None
    operation: Operation | None
    url: str
    summary: str  # of several


def begun(scope: Scope) -> list[str]:
    """The operations that this request has begun and that go on."""
    found = Operation.objects.filter(requested_by_id=scope.actor.user_id, request_id=scope.request_id, finished_at=None)
    return [str(ident) for ident in found.values_list("pk", flat=True)] if scope.request_id else []


def follow(request: HttpRequest, words: str, operations: Sequence[str], undo: Mapping[str, Any] | None) -> None:
    """Have the next pages tell of this work, until they have told of its end."""
    kept = request.session.get(FOLLOWED, [])
    latest = {"words": words, "operations": list(operations), "undo": undo}
    request.session[FOLLOWED] = [*kept, latest][-MAX_FOLLOWED:]


def followed(request: HttpRequest) -> list[Following]:
    """The toasts as they are now. What has ended is told once."""
    kept = request.session.get(FOLLOWED)
    if not kept:
        return []
    ids = {ident for each in kept for ident in each["operations"]}
    works = {str(work.pk): work for work in Operation.objects.filter(pk__in=ids).defer("history")}
    names = dict(Project.objects.filter(pk__in={work.project_id for work in works.values()}).values_list("pk", "name"))
    shown, left = [], []
    for each in kept:
        own = [works[ident] for ident in each["operations"] if ident in works]
        own = [work for work in own if work.outcome != Outcome.SUPERSEDED]  # what took over has a toast of its own
        if not own:
            continue
        told = _told(each, own, names)
        shown.append(told)
        if told.is_live:
            left.append(each)
    if left != kept:
        request.session[FOLLOWED] = left
    return shown


def _told(each: Mapping[str, Any], works: list[Operation], names: Mapping[Any, str]) -> Following:
    live = [work for work in works if work.finished_at is None]
    done = [work for work in works if work.outcome == Outcome.DONE and work.finished_at]
    failed = [work for work in works if work.outcome == Outcome.FAILED and work.finished_at]
    only = works[0] if len(works) == 1 else None
    url = ""
    if only and not (only.kind.endswith((".delete", ".discard")) and only.outcome == Outcome.DONE):
        url = links.of(only.subject_type, only.subject_id, names.get(only.project_id, ""))
    parts = [f"{len(done)} of {len(works)} done", f"{len(failed)} failed" if failed else ""]
    tone = "error" if failed else "info" if live or len(done) < len(works) else "success"
    return Following(
        id=str(works[0].pk),
        words=each["words"],
        is_live=bool(live),
        tone=tone,
        undo=each["undo"],
        operation=only,
        url=url,
        summary="" if only else ", ".join(part for part in parts if part),
    )
