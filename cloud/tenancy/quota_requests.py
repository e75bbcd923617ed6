"""Asking for a larger quota, and answering: what is approved is a change of the quota like any other."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db.models.functions import Now

from cloud.events.services import Actor, record
from cloud.problems import Conflict, Fault, Invalid, explain_constraint
from cloud.tenancy import quota, services
from cloud.tenancy.models import Project, QuotaRequest

explain_constraint(
    "one_open_request_per_project_and_kinds",
    "The same is asked for already, and not yet answered. Withdraw that request to ask for other numbers.",
)


class Decided(Conflict):
    """Somebody has answered the request, or taken it back."""

    title: ClassVar[str] = "This request is not open any more"


def ask(*, project: Project, actor: Actor, limits: Mapping[str, int], reason: str = "") -> QuotaRequest:
    """Ask for larger limits. Raises Invalid for those that are no more than what the project has."""
    if not limits:
        message = "Say of what the project needs more, and how much."
        raise Invalid(message, errors=[Fault("", message)])
    present = quota.lock(project).limits
    faults = []
    for kind, limit in limits.items():
        if present.get(kind, 0) is None:
            faults.append(Fault(f"/{kind}", "There is no limit."))
        elif limit <= present.get(kind, 0):
            faults.append(Fault(f"/{kind}", f"The limit is {present.get(kind, 0)} already."))
    if faults:
        raise Invalid("Ask for more than the project has.", errors=faults)
    request = QuotaRequest.objects.create(
        project=project,
        kinds=sorted(limits),
        limits=dict(limits),
        before={kind: present.get(kind, 0) for kind in limits},
        reason=reason,
        requested_by=actor.name,
        requested_by_id=actor.user_id,
    )
    after = {**limits, **({"reason": reason} if reason else {})}
    record("tenancy.quota_request.create", request, actor=actor, before=request.before, after=after)
    return request


def withdraw(*, request: QuotaRequest, actor: Actor) -> QuotaRequest:
    """Nothing more is wanted. Raises Decided."""
    return _decide(request, actor, QuotaRequest.State.WITHDRAWN)


def decline(*, request: QuotaRequest, actor: Actor, note: str) -> QuotaRequest:
    """It stays as it is, for the reason in the note. Raises Decided."""
    return _decide(request, actor, QuotaRequest.State.DECLINED, note)


def approve(*, request: QuotaRequest, actor: Actor, note: str = "") -> QuotaRequest:
    """Raise the limits to what was asked for; what was raised further meanwhile stays. Raises Decided."""
    present = quota.lock(request.project_id).limits
    request = _decide(request, actor, QuotaRequest.State.APPROVED, note)
    higher = {
        kind: limit
        for kind, limit in request.limits.items()
        if present.get(kind, 0) is not None and limit > present.get(kind, 0)
    }
    if higher:
        services.change_quota(project=request.project, actor=actor, limits=higher)
    return request


VERBS = {
    QuotaRequest.State.WITHDRAWN: "withdraw",
    QuotaRequest.State.DECLINED: "decline",
    QuotaRequest.State.APPROVED: "approve",
}


def _decide(request: QuotaRequest, actor: Actor, state: QuotaRequest.State, note: str = "") -> QuotaRequest:
    request = QuotaRequest.objects.select_for_update(of=("self",)).select_related("project").get(pk=request.pk)
    if request.state != QuotaRequest.State.OPEN:
        raise Decided(f"It was {request.state} by {request.decided_by}.")
    request.state, request.note, request.decided_by, request.decided_at = state, note, actor.name, Now()
    request.save(update_fields=["state", "note", "decided_by", "decided_at"])
    after: dict[str, Any] = {"note": note} if note else {}
    record(f"tenancy.quota_request.{VERBS[state]}", request, actor=actor, after=after)
    request.refresh_from_db()
    return request
