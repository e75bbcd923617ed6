"""What streams asks the database. Every function here blocks, and runs in a thread of its own."""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from django.contrib.sessions.models import Session
from django.db import close_old_connections
from django.db.models.functions import Now

from cloud.api.scope import RANK
from cloud.events import reading
from cloud.events.api.serializers import shown as shown_event
from cloud.events.reading import Cursor
from cloud.hosts import resources
from cloud.hosts.models import Host
from cloud.operations.api.serializers import shown as shown_operation
from cloud.operations.models import Operation
from cloud.streams.handover import Caller
from cloud.tenancy.models import Membership, Role, Token, User

P = ParamSpec("P")
T = TypeVar("T")


def fresh(ask: Callable[P, T]) -> Callable[P, T]:
    """Without a connection that the database has closed meanwhile."""

    @wraps(ask)
    def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        close_old_connections()
        try:
            return ask(*args, **kwargs)
        finally:
            close_old_connections()

    return asked


@fresh
def present_cursor() -> Cursor:
    return reading.now()


@fresh
def next_events(project: str | None, cursor: Cursor, limit: int) -> tuple[Sequence[tuple[Cursor, Any, str]], bool]:
    """Events behind the cursor, each with its body and action, and whether to look again soon."""
    events, more = reading.follow(UUID(project) if project else None, cursor, limit)
    return [(Cursor.of(event), shown_event(event, of_project=bool(project)), event.action) for event in events], more


@fresh
def finished(operation_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Of these operations, those that have ended or are gone (an empty body), as the API shows them."""
    wanted = set(operation_ids)
    rows = {str(row.pk): row for row in Operation.objects.filter(pk__in=wanted)}
    ended = {ident: shown_operation(row) for ident, row in rows.items() if row.finished_at}
    return {**ended, **{ident: {} for ident in wanted - set(rows)}}


@fresh
def present(operation_id: str) -> dict[str, Any]:
    """An operation as it is now; empty when it is gone."""
    row = Operation.objects.filter(pk=operation_id).first()
    return shown_operation(row) if row else {}


@fresh
def no_longer_allowed(callers: Collection[Caller]) -> set[Caller]:
    """Connections whose rights were revoked: the token, session, account, role or machine has changed since."""
    users = {str(user.pk): user for user in User.objects.filter(pk__in={each.user for each in callers}, is_active=True)}
    tokens = {
        str(token.pk): token
        for token in Token.objects.filter(pk__in={each.token for each in callers if each.token}, expires_at__gt=Now())
    }
    keys = {each.session for each in callers if each.session}
    sessions = set(
        Session.objects.filter(pk__in=keys, expire_date__gt=Now()).values_list("pk", flat=True) if keys else ()
    )
    projects = {UUID(each.project) for each in callers if each.project}
    memberships = Membership.objects.filter(project__in=projects, user__in=list(users.values()))
    ranks = {(str(each.user_id), str(each.project_id)): RANK[Role(each.role)] for each in memberships}
    machines = {each.instance for each in callers if each.instance}
    kind = resources.kind_of("instance")
    places = set()  # (instance, host)
    if machines and kind:
        on_hosts = kind.rows(map(UUID, machines)).values_list(kind.model.id_on_hosts, "host_id")
        places = {(str(ident), str(host)) for ident, host in on_hosts}

    def is_allowed(caller: Caller) -> bool:
        user = users.get(caller.user)
        if user is None:
            return False
        narrow = None
        if caller.token:
            token = tokens.get(caller.token)
            if token is None:
                return False
            narrow = str(token.project_id) if token.project_id else None
        elif caller.session not in sessions or caller.session_hash != user.get_session_auth_hash():
            return False
        if narrow and narrow != caller.project:
            return False
        if caller.instance and (caller.instance, caller.host) not in places:
            return False
        rank = ranks.get((caller.user, caller.project or ""), 0)
        return user.is_cloud_admin or rank >= RANK[Role(caller.role)]

    return {caller for caller in callers if not is_allowed(caller)}


@fresh
def hosts_among(idents: Collection[str]) -> set[str]:
    """Those of these that are still hosts of this cloud."""
    return {str(pk) for pk in Host.objects.filter(pk__in=list(idents), lost_at=None).values_list("pk", flat=True)}
