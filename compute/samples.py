"""What instances use, over time: taken in from hosts, packed as it ages, given out as even series with gaps.

Raw samples are rows, one for ten seconds. Each whole hour is packed into one row of minutes for each instance, each
whole day into one row of quarters of an hour: arrays, in which a gap is a null. So a batch of a host is one insert
without an index to speak of, and what grows old is a few rows to delete.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Max, Min

from cloud.api.ranges import Ranges, Span
from cloud.hosts.models import Host
from compute.models import METRICS, Instance, Sample, SampleDay, SampleHour

OLDEST = 600  # seconds: what a host tells later than this is not taken
SETTLED = timedelta(seconds=OLDEST + 60)  # after the end of an hour, nothing of it comes any more
RAW_KEPT, HOURS_KEPT, DAYS_KEPT = timedelta(hours=1), timedelta(hours=25), timedelta(days=31)
MINUTE, QUARTER = 60, 900

Values = tuple[float | None, ...]
NOTHING: Values = (None,) * len(METRICS)
Point = tuple[float, Values]  # seconds since the epoch, one value for each of METRICS
When = tuple[float, float]  # two moments, in seconds since the epoch


SPANS = {"1h": Span(3600, 10), "1d": Span(86400, MINUTE), "30d": Span(30 * 86400, QUARTER)}
RANGES = Ranges(SPANS, {10: RAW_KEPT, MINUTE: HOURS_KEPT, QUARTER: DAYS_KEPT})


@dataclass(frozen=True)
class Series:
    """`values` by metric: one for each step from `start` on, None where nothing was measured."""

    start: datetime
    step: int
    values: dict[str, list[float | None]]


# Taking in

# What is no number, negative or endless is a gap. Only what is placed on the host is its to tell of.
_VALID = ", ".join(f"CASE WHEN s.{name} >= 0 AND s.{name} < 'Infinity' THEN s.{name} END" for name in METRICS)
_INSERT = f"""
    INSERT INTO compute_sample (instance_id, at, {", ".join(METRICS)})
    SELECT s.id, now() - make_interval(secs => s.age), {_VALID}
    FROM jsonb_to_recordset(%s::jsonb) AS s(id uuid, age float8, {", ".join(f"{name} real" for name in METRICS)})
    JOIN compute_machine m ON m.instance_id = s.id AND m.host_id = %s
    WHERE s.age BETWEEN 0 AND {OLDEST}
    ON CONFLICT DO NOTHING
"""


@transaction.atomic
def take_in(*, host: Host, samples: list[dict[str, Any]]) -> int:
    """Keep what a host has measured; how many samples were kept. Raises DataError for what cannot be read."""
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [json.dumps(samples), host.pk])
        return int(cursor.rowcount)


# Packing

_PACK_HOUR = f"""
    INSERT INTO compute_samplehour (instance_id, at, {", ".join(METRICS)})
    SELECT known.instance_id, %(at)s, {", ".join(f"array_agg(found.{name} ORDER BY minute)" for name in METRICS)}
    FROM (SELECT DISTINCT instance_id FROM compute_sample WHERE at >= %(at)s AND at < %(end)s) known
    CROSS JOIN generate_series(%(at)s, %(end)s - interval '1 minute', interval '1 minute') minute
    LEFT JOIN (
        SELECT instance_id, date_trunc('minute', at) AS begun, {", ".join(f"avg({name}) AS {name}" for name in METRICS)}
        FROM compute_sample WHERE at >= %(at)s AND at < %(end)s GROUP BY 1, 2
    ) found ON found.instance_id = known.instance_id AND found.begun = minute
    GROUP BY known.instance_id
    ON CONFLICT DO NOTHING
"""
_PACK_DAY = f"""
    INSERT INTO compute_sampleday (instance_id, at, {", ".join(METRICS)})
    SELECT known.instance_id, %(at)s, {", ".join(f"array_agg(found.{name} ORDER BY quarter)" for name in METRICS)}
    FROM (SELECT DISTINCT instance_id FROM compute_samplehour WHERE at >= %(at)s AND at < %(end)s) known
    CROSS JOIN generate_series(%(at)s, %(end)s - interval '15 minutes', interval '15 minutes') quarter
    LEFT JOIN (
        SELECT instance_id, h.at + interval '15 minutes' * ((m.number - 1) / 15) AS begun,
            {", ".join(f"avg(m.{name}) AS {name}" for name in METRICS)}
        FROM compute_samplehour h, unnest({", ".join(f"h.{name}" for name in METRICS)})
            WITH ORDINALITY AS m({", ".join(METRICS)}, number)
        WHERE h.at >= %(at)s AND h.at < %(end)s GROUP BY 1, 2
    ) found ON found.instance_id = known.instance_id AND found.begun = quarter
    GROUP BY known.instance_id
    ON CONFLICT DO NOTHING
"""


def pack(now: datetime | None = None) -> None:
    """Pack every hour and day that is over, and forget what is kept long enough. Doing it twice changes nothing."""
    now = now or _now()
    hour = (now - SETTLED).replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    _pack(_PACK_HOUR, Sample, SampleHour, timedelta(hours=1), until=hour)
    _pack(_PACK_DAY, SampleHour, SampleDay, timedelta(days=1), until=day)
    Sample.objects.filter(at__lt=min(hour, now - RAW_KEPT)).delete()
    SampleHour.objects.filter(at__lt=min(day, now - HOURS_KEPT)).delete()
    SampleDay.objects.filter(at__lt=now - DAYS_KEPT).delete()


def _pack(statement: str, source: Any, target: Any, length: timedelta, *, until: datetime) -> None:
    """Pack what there is in the source between what is packed already and `until`, a length at a time."""
    first, last = source.objects.aggregate(at=Min("at"))["at"], target.objects.aggregate(at=Max("at"))["at"]
    if first is None:
        return
    at = first.replace(minute=0, second=0, microsecond=0)
    if length > timedelta(hours=1):
        at = at.replace(hour=0)
    if last is not None:
        at = max(at, last + length)
    while at < until:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement, {"at": at, "end": at + length})
        at += length


def _now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        moment: datetime = cursor.fetchone()[0]
        return moment


# Giving out


def series(instance: Instance, span: Span) -> Series:
    """The instance's use over a span, from what is kept that is fine enough."""
    now = (span.until or _now()).timestamp()
    since, count = now - span.seconds - span.step, span.seconds // span.step
    when = (since, now + span.step)
    if span.step < MINUTE:
        # Hosts measure at even distances, but at no even seconds: the places are in step with the latest sample.
        points = list(_raw(instance.pk, when))
        behind = (now - points[-1][0]) % span.step if points else 0
        start = now - behind - (count - 0.5) * span.step
    else:
        points = list(_packed(instance.pk, when, span.step))
        start = span.start(now)
    places: list[list[Values]] = [[] for _ in range(count)]
    for at, values in points:
        place = int((at - start) // span.step)
        if 0 <= place < count:
            places[place].append(values)
    columns = zip(*(_mean(found) for found in places), strict=True)
    by_metric = {name: list(column) for name, column in zip(METRICS, columns, strict=True)}
    return Series(datetime.fromtimestamp(start, UTC), span.step, by_metric)


def _raw(instance_id: UUID, when: When) -> Iterator[Point]:
    for at, values in _rows(Sample, instance_id, when):
        yield at, tuple(values)


def _packed(instance_id: UUID, when: When, step: int) -> Iterator[Point]:
    """Quarters of days, minutes of hours of which there is no day, and samples of which there is no hour."""
    days, hours = set(), set()
    if step >= QUARTER:
        for at, columns in _rows(SampleDay, instance_id, when, length=86400):
            days.add(at)
            yield from _unpacked(at, columns, QUARTER)
    for at, columns in _rows(SampleHour, instance_id, when, length=3600):
        hours.add(at)
        if at // 86400 * 86400 not in days:
            yield from _unpacked(at, columns, MINUTE)
    for at, values in _raw(instance_id, when):
        if at // 3600 * 3600 not in hours and at // 86400 * 86400 not in days:
            yield at, values


def _rows(model: Any, instance_id: UUID, when: When, length: int = 0) -> Iterator[tuple[float, list[Any]]]:
    """What was begun between two moments; `length`: the seconds that a row is about, which may reach into them."""
    begin, end = (datetime.fromtimestamp(at, UTC) for at in (when[0] - length, when[1]))
    rows = model.objects.filter(instance_id=instance_id, at__gte=begin, at__lt=end).order_by("at")
    for at, *columns in rows.values_list("at", *METRICS):
        yield at.timestamp(), columns


def _unpacked(at: float, columns: list[list[float | None] | None], step: int) -> Iterator[Point]:
    for number, values in enumerate(zip_longest(*(column or () for column in columns))):
        yield at + number * step, values


def _mean(found: list[Values]) -> Values:
    """Metric by metric, of those that were measured."""
    if len(found) == 1:
        return found[0]
    known = ([value for value in column if value is not None] for column in zip(*found, strict=True))
    return tuple(sum(column) / len(column) if column else None for column in known) if found else NOTHING
