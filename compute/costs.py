"""What a project's instances cost: their price an hour, for as long as each has held its place on a host.

What is stopped holds its place, and costs the same. Nothing is counted up: the sums are made of allocations, and of the
rentals that deleted instances have left. A launch that failed has given its place back, and costs nothing.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from cloud.hosts.models import Allocation
from cloud.tenancy.models import Project
from compute.models import Instance, Rental

MOST_ITEMS = 100
HOUR = Decimal(3600)

# Every time in which something was held, within the month: from the beginning of one to the beginning of the next.
_HELD = """
    WITH month AS (
        SELECT began, began + interval '1 month' AS ended
        FROM (SELECT coalesce(%(month)s::timestamptz, date_trunc('month', now(), 'UTC')) AS began) first
    ), held AS (
        SELECT instance_id, name, flavor, price_per_hour, began_at, ended_at, false AS lives
        FROM compute_rental, month WHERE project_id = %(project)s AND ended_at > month.began AND began_at < month.ended
        UNION ALL
        SELECT i.id, i.name, f.name, i.price_per_hour, a.created_at, now(), true
        FROM hosts_allocation a JOIN compute_instance i
                ON a.resource_type = 'instance' AND i.id = a.resource_id
            JOIN compute_machine m ON m.id = i.machine_id AND m.host_id = a.host_id
            JOIN compute_flavor f ON f.id = i.flavor_id, month
        WHERE i.project_id = %(project)s AND a.created_at < month.ended AND now() > month.began
    ), cost AS (
        SELECT instance_id, name, flavor, price_per_hour, lives,
            extract(epoch FROM least(ended_at, month.ended) - greatest(began_at, month.began))::numeric / 3600 AS hours
        FROM held, month WHERE %(instance)s = '' OR %(instance)s IN (name, instance_id::text)
    )
"""


@dataclass(frozen=True)
class Cost:
    """A month's cost. `per_hour` is what everything that lives costs now; `items` are the dearest instances."""

    month: datetime
    so_far: Decimal
    per_hour: Decimal
    at_month_end: Decimal
    count: int
    items: list[dict[str, Any]]


def of(project: Project, *, month: datetime | None = None, instance: str = "", items: int = 0) -> Cost:
    """What the project, or one instance of it (id or name), costs in the month that begins then; this one, if none."""
    facts = {"month": month, "project": project.pk, "instance": instance, "items": items}
    with connection.cursor() as cursor:
        cursor.execute(
            f"""{_HELD} SELECT now(), (SELECT began FROM month), coalesce(sum(price_per_hour * hours), 0), count(*),
                coalesce(sum(price_per_hour) FILTER (WHERE lives), 0) FROM cost""",
            facts,
        )
        now, begin, so_far, count, per_hour = cursor.fetchone()
        listed: list[dict[str, Any]] = []
        if items:
            cursor.execute(
                f"{_HELD} SELECT *, price_per_hour * hours FROM cost ORDER BY 7 DESC, instance_id LIMIT %(items)s",
                facts,
            )
            names = ("id", "name", "flavor", "price_per_hour", "lives", "hours", "cost")
            listed = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    left = Decimal(max(0.0, (following(begin) - max(now, begin)).total_seconds())) / HOUR
    return Cost(begin, so_far, per_hour, so_far + per_hour * left, count, listed)


def following(month: datetime) -> datetime:
    """The beginning of the next month."""
    return (month + timedelta(days=32)).replace(day=1)


def close(instance: Instance) -> None:
    """An instance is about to go: keep what it has cost. Called with its row, in the transaction that deletes it."""
    allocation = Allocation.of("instance", instance.pk).filter(host=instance.host_id).first()
    if allocation is not None:
        Rental.objects.create(
            project_id=instance.project_id,
            instance_id=instance.pk,
            name=instance.name,
            flavor=instance.flavor.name,
            price_per_hour=instance.price_per_hour,
            began_at=allocation.created_at,
        )
