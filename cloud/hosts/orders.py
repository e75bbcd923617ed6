"""Orders out: posted by steps, claimed by hosts under a lease, answered by what is seen."""

from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Max, QuerySet

from cloud.hosts.hosted import Hosted
from cloud.hosts.models import Host, Order
from cloud.hosts.resources import HostedResource, kind_of, kinds
from cloud.operations import bells
from cloud.queries import Prepared, Statement

log = structlog.get_logger(__name__)

MAX_PROBLEM = 500  # characters


@dataclass(frozen=True)
class Claimed:
    """One order as its host gets it. Where no row has the resource on that host, its spec is only its id."""

    order: Order
    spec: dict[str, Any]


_POST = Statement(
    """
    INSERT INTO hosts_order (id, host_id, resource_type, resource_id, verb, generation, attempt, posted_at)
    VALUES (gen_random_uuid(), %(host)s, %(type)s, %(id)s, %(verb)s, %(generation)s, 0, now())
    ON CONFLICT (host_id, resource_type, resource_id) WHERE answered_at IS NULL
    DO UPDATE SET verb = excluded.verb, generation = excluded.generation, attempt = 0,
        lease_until = NULL, posted_at = now(), problem = ''
    WHERE (hosts_order.verb, hosts_order.generation) <> (excluded.verb, excluded.generation)
    RETURNING id
    """,
    table="hosts_order",
)
_ANSWER = Statement(
    """
    UPDATE hosts_order SET answered_at = now()
    WHERE host_id = %(host)s AND resource_type = %(type)s AND resource_id = %(id)s AND answered_at IS NULL
        AND generation <= %(generation)s AND attempt > 0
    RETURNING id
    """,
    table="hosts_order",
)


def post(host: Host, resource_type: str, resource_id: UUID, verb: str, generation: int) -> None:
    """Tell a host, once this transaction has committed, what one of its resources should be.

    At most one order per host and resource is live: a new generation or verb replaces it, posting the same again
    changes nothing that is under way.
    """
    facts = {"host": host.pk, "type": resource_type, "id": resource_id, "verb": verb, "generation": generation}
    _POST.rows(facts)
    ring(host)


def first_generation(host_id: UUID, resource_type: str, resource_id: UUID) -> int:
    """The generation to begin with on a host: above all that it had orders of, as its ledger remembers them."""
    before = Order.objects.filter(host_id=host_id, resource_type=resource_type, resource_id=resource_id)
    return (before.aggregate(latest=Max("generation"))["latest"] or 0) + 1


def ring(host: Host) -> None:
    """Ring the host's bell on commit. One waiting bell is enough: whoever hears it looks at everything."""
    transaction.on_commit(
        lambda: bells.push(queue(host), "host.look", prefix=key_prefix(host), longest=1),
        robust=True,
    )


def queue(host: Host) -> str:
    return f"host.{host.pk}"


def key_prefix(host: Host) -> str:
    return f"h:{host.pk}:"


@transaction.atomic
def claim(host: Host, limit: int, incarnation: str = "") -> list[Claimed]:
    """Lease the host's due orders and render their specs, in one transaction.

    `incarnation` names the run of the host's worker: a new run takes over at once what the one before it had leased.
    What others wait for on the host is claimed before them, so those that wait never take all of its room for orders.
    An order whose spec cannot be rendered keeps its lease and says why; it is tried again when the lease has run out.
    """
    first = [kind.type for kind in kinds() if kind.comes_first]
    orders = Order.objects.raw(
        """
        WITH due AS MATERIALIZED (  -- once: as a subquery it may run for each row, and each time finds others
            SELECT id FROM hosts_order
            WHERE host_id = %s AND answered_at IS NULL
                AND (lease_until IS NULL OR lease_until < now() OR (%s <> '' AND claimed_by <> %s))
            ORDER BY resource_type = ANY(%s) DESC, posted_at LIMIT %s FOR UPDATE SKIP LOCKED
        )
        UPDATE hosts_order SET attempt = attempt + 1, lease_until = now() + make_interval(secs => %s), claimed_by = %s,
            problem = ''
        FROM due WHERE hosts_order.id = due.id
        RETURNING hosts_order.*
        """,
        [host.pk, incarnation, incarnation, first, limit, settings.ORDER_LEASE_SECONDS, incarnation],
    )
    claimed = []
    for order in sorted(orders, key=lambda order: (order.resource_type not in first, order.posted_at)):
        kind = kind_of(order.resource_type)
        if kind is None:
            continue
        try:
            with transaction.atomic():
                claimed.append(Claimed(order, _spec(kind, order)))
        except Exception as error:
            log.warning("order.not_rendered", order=str(order.pk), host=host.name, exc_info=error)
            problem = f"{type(error).__name__}: {error}"[:MAX_PROBLEM]
            Order.objects.filter(pk=order.pk).update(problem=problem)
    return claimed


def _spec(kind: HostedResource, order: Order) -> dict[str, Any]:
    row = _ordered(kind).first(order.resource_id, order.host_id)
    return kind.spec(row, order.verb) if row else {"id": str(order.resource_id)}


@cache
def _ordered(kind: HostedResource) -> "Prepared[Hosted]":
    """The row of a kind that a host knows by an id, with what its spec reads."""
    rows, known_as = kind.model._default_manager.select_related(*kind.related), kind.model.id_on_hosts
    return Prepared(lambda ident, host: rows.filter(**{known_as: ident, "host": host}))


def live_for(resource_type: str, resource_id: Any, host: Any) -> "QuerySet[Order]":
    """Orders of one resource on one host that have no answer yet; for a subquery also by its columns."""
    return Order.objects.filter(resource_type=resource_type, resource_id=resource_id, host=host, answered_at=None)


def renew(host: Host, order_id: UUID, generation: int) -> int | None:
    """Keep a lease alive. Returns None when renewed, otherwise the generation now wanted (0: no such order)."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE hosts_order SET lease_until = now() + make_interval(secs => %s)
            WHERE id = %s AND host_id = %s AND generation = %s AND answered_at IS NULL
            """,
            [settings.ORDER_LEASE_SECONDS, order_id, host.pk, generation],
        )
        if cursor.rowcount:
            return None
    current = Order.objects.filter(pk=order_id, host=host).values_list("generation", flat=True).first()
    return current or 0


def answer(host: Host, resource_type: str, resource_id: UUID, generation: int) -> None:
    """A report has been accepted: the claimed order of that generation, or of an older one, is answered."""
    _ANSWER.rows({"host": host.pk, "type": resource_type, "id": resource_id, "generation": generation})
