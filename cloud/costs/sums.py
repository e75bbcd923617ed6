"""What a project's resources cost: their price an hour, for as long as each has held its place.

What is stopped holds its place, and costs the same. A launch that failed has given its place back, and costs nothing.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from cloud.costs import kinds
from cloud.tenancy.models import Project

MAX_ITEMS = 100
HOUR = Decimal(3600)
ITEM = ("type", "id", "name", "size", "labels", "price_per_hour", "lives", "hours", "cost")

# Every time in which something was held, within the month: from the beginning of one to the beginning of the next.
_COSTS = """
    WITH month AS (
        SELECT began, began + interval '1 month' AS ended
        FROM (SELECT coalesce(%(month)s::timestamptz, date_trunc('month', now(), 'UTC')) AS began) first
    ), held AS (
        SELECT resource_type, resource_id, name, size, labels, price_per_hour, began_at, ended_at, false AS lives
        FROM costs_rental, month WHERE project_id = %(project)s AND ended_at > month.began AND began_at < month.ended
        UNION ALL
        SELECT living.*, now(), true FROM ({living}) living, month
        WHERE living.began_at < month.ended AND now() > month.began
    ), cost AS (
        SELECT *, price_per_hour * hours AS cost FROM (
            SELECT resource_type, resource_id, name, size, labels, price_per_hour, lives,
                extract(epoch FROM least(ended_at, month.ended) - greatest(began_at, month.began))::numeric / 3600
                    AS hours
            FROM held, month
            WHERE (%(type)s = '' OR %(type)s = resource_type) AND (%(of)s = '' OR %(of)s IN (name, resource_id::text))
        ) times
    )
"""


@dataclass(frozen=True)
class Cost:
    """A month's cost. `per_hour` is what everything that lives costs now; `items` are the most expensive resources."""

    month: datetime
    so_far: Decimal
    per_hour: Decimal
    at_month_end: Decimal
    count: int
    items: list[dict[str, Any]]


def of(
    project: Project, *, month: datetime | None = None, resource_type: str = "", resource: str = "", items: int = 0
) -> Cost:
    """What the project costs in the month that begins then; this one, if none. `resource`: only of this one, by id or
    name. One query, and one more for `items`."""
    facts = {"month": month, "project": project.pk, "type": resource_type, "of": resource, "items": items}
    rows = _COSTS.format(living=kinds.all_living())
    with connection.cursor() as cursor:
        cursor.execute(
            f"""{rows} SELECT now(), (SELECT began FROM month), coalesce(sum(cost), 0), count(*),
                coalesce(sum(price_per_hour) FILTER (WHERE lives), 0) FROM cost""",
            facts,
        )
        now, begin, so_far, count, per_hour = cursor.fetchone()
        listed: list[dict[str, Any]] = []
        if items:
            cursor.execute(f"{rows} SELECT * FROM cost ORDER BY cost DESC, resource_id LIMIT %(items)s", facts)
            listed = [dict(zip(ITEM, row, strict=True)) for row in cursor.fetchall()]
    left = Decimal(max(0.0, (following(begin) - max(now, begin)).total_seconds())) / HOUR
    return Cost(begin, so_far, per_hour, so_far + per_hour * left, count, listed)


@dataclass(frozen=True)
class Part:
    """The share of everything that has one type, or one value of a label."""

    name: str
    cost: Decimal
    count: int


def by_type(project: Project, month: datetime | None = None) -> list[Part]:
    """A month's cost by type of resource, the largest first."""
    return _parts(project, month, "resource_type", "")


def by_label(project: Project, key: str, month: datetime | None = None) -> list[Part]:
    """A month's cost by the value of a label, the largest first. What does not have the label is counted under ""."""
    return _parts(project, month, "coalesce(labels ->> %(key)s, '')", key)


def label_keys(project: Project, month: datetime | None = None) -> list[str]:
    """The labels that anything has which cost something in the month, in alphabetical order."""
    facts = {"month": month, "project": project.pk, "type": "", "of": ""}
    with connection.cursor() as cursor:
        cursor.execute(
            f"""{_COSTS.format(living=kinds.all_living())}
                SELECT DISTINCT jsonb_object_keys(labels) FROM cost ORDER BY 1""",
            facts,
        )
        return [row[0] for row in cursor.fetchall()]


def _parts(project: Project, month: datetime | None, expression: str, key: str) -> list[Part]:
    facts = {"month": month, "project": project.pk, "type": "", "of": "", "key": key}
    with connection.cursor() as cursor:
        cursor.execute(
            f"""{_COSTS.format(living=kinds.all_living())}
                SELECT {expression}, sum(cost), count(*) FROM cost GROUP BY 1 ORDER BY 2 DESC, 1""",
            facts,
        )
        return [Part(*row) for row in cursor.fetchall()]


def following(month: datetime) -> datetime:
    """The beginning of the next month."""
    return (month + timedelta(days=32)).replace(day=1)


def previous(month: datetime) -> datetime:
    """The beginning of the month before."""
    return (month - timedelta(days=1)).replace(day=1)
