"""What instances use, over time: taken in from hosts, packed as it ages, given out as even series with gaps.

Raw samples are rows, one for ten seconds. Each whole hour is packed into one row of minutes for each instance, each
whole day into one row of quarters of an hour: arrays, in which a gap is a null. So a batch of a host is one insert
without an index to speak of, and what grows old is a few rows to delete. Single disks and NICs are kept in the same
way, where an instance has several.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Max, Min

from cloud.api.ranges import Ranges, Span
from cloud.hosts.models import Host
from compute.models import (
    DEVICE_METRICS,
    METRICS,
    DeviceDay,
    DeviceHour,
    DeviceSample,
    Instance,
    Sample,
    SampleDay,
    SampleHour,
)

OLDEST = 600  # seconds: what a host tells later than this is not taken
SETTLED = timedelta(seconds=OLDEST + 60)  # after the end of an hour, nothing of it comes any more
RAW_KEPT, HOURS_KEPT, DAYS_KEPT = timedelta(hours=1), timedelta(hours=25), timedelta(days=31)
MINUTE, QUARTER = 60, 900

Values = tuple[float | None, ...]
Key = tuple[UUID, ...]  # () for an instance, else its device
Found = tuple[Key, float, Values]  # what was measured when, in seconds since the epoch: a value for each metric
When = tuple[float, float]  # two moments, in seconds since the epoch
ByMetric = dict[str, list[float | None]]

SPANS = {"1h": Span(3600, 10), "1d": Span(86400, MINUTE), "30d": Span(30 * 86400, QUARTER)}
RANGES = Ranges(SPANS, {10: RAW_KEPT, MINUTE: HOURS_KEPT, QUARTER: DAYS_KEPT})


@dataclass(frozen=True)
class Kept:
    """The tables of one kind of measure: samples, packed by the hour, packed by the day.

    `whose`: the columns that say what was measured, the instance first.
    """

    samples: Any
    hours: Any
    days: Any
    whose: tuple[str, ...]
    metrics: tuple[str, ...]


INSTANCES = Kept(Sample, SampleHour, SampleDay, ("instance_id",), METRICS)
DEVICES = Kept(DeviceSample, DeviceHour, DeviceDay, ("instance_id", "device_id"), DEVICE_METRICS)


@dataclass(frozen=True)
class Series:
    """`values` by metric: one for each step from `start` on, None where nothing was measured. `devices`: the same of
    each disk and NIC, by its id, where there are several; a single one is what `values` says."""

    start: datetime
    step: int
    values: ByMetric
    devices: dict[UUID, ByMetric]


# Taking in

MEMBERS = {"instance_id": "id", "device_id": "device"}
# What a host may tell of beside the instance: its own disk, its ports, its volumes.
_OF_THE_INSTANCE = """AND (
        s.device = s.id
        OR EXISTS (SELECT FROM network_port WHERE id = s.device AND holder_type = 'instance' AND holder_id = s.id)
        OR EXISTS (
            SELECT FROM storage_attachment
            WHERE volume_id = s.device AND holder_type = 'instance' AND holder_id = s.id
        )
    )"""


def _insert(kept: Kept, also: str = "") -> str:
    """What is no number, negative or endless is a gap. Only what is placed on the host is its to tell of."""
    valid = (f"CASE WHEN s.{name} >= 0 AND s.{name} < 'Infinity' THEN s.{name} END" for name in kept.metrics)
    return f"""
    INSERT INTO {kept.samples._meta.db_table} ({", ".join(kept.whose)}, at, {", ".join(kept.metrics)})
    SELECT {", ".join(f"s.{MEMBERS[column]}" for column in kept.whose)}, now() - make_interval(secs => s.age),
        {", ".join(valid)}
    FROM jsonb_to_recordset(%s::jsonb)
        AS s(id uuid, device uuid, age float8, {", ".join(f"{name} real" for name in kept.metrics)})
    JOIN compute_machine m ON m.instance_id = s.id AND m.host_id = %s
    WHERE s.age BETWEEN 0 AND {OLDEST} {also}
    ON CONFLICT DO NOTHING
"""


_INSERT, _INSERT_DEVICES = _insert(INSTANCES), _insert(DEVICES, _OF_THE_INSTANCE)


@transaction.atomic
def take_in(*, host: Host, samples: list[dict[str, Any]], devices: Sequence[dict[str, Any]] = ()) -> int:
    """Keep what a host has measured of instances, and of their disks and NICs; how many samples of instances were kept.
    Raises DataError for what cannot be read."""
    with connection.cursor() as cursor:
        if devices:
            cursor.execute(_INSERT_DEVICES, [json.dumps(devices), host.pk])
        cursor.execute(_INSERT, [json.dumps(samples), host.pk])
        return int(cursor.rowcount)


# Packing


def _pack_hour(kept: Kept) -> str:
    return _pack_into(
        kept,
        kept.hours,
        kept.samples,
        part="1 minute",
        means=f"""
        SELECT {", ".join(kept.whose)}, date_trunc('minute', at) AS begun,
            {", ".join(f"avg({name}) AS {name}" for name in kept.metrics)}
        FROM {kept.samples._meta.db_table} WHERE at >= %(at)s AND at < %(end)s GROUP BY {", ".join(kept.whose)}, begun
    """,
    )


def _pack_day(kept: Kept) -> str:
    return _pack_into(
        kept,
        kept.days,
        kept.hours,
        part="15 minutes",
        means=f"""
        SELECT {", ".join(kept.whose)}, h.at + interval '15 minutes' * ((m.number - 1) / 15) AS begun,
            {", ".join(f"avg(m.{name}) AS {name}" for name in kept.metrics)}
        FROM {kept.hours._meta.db_table} h, unnest({", ".join(f"h.{name}" for name in kept.metrics)})
            WITH ORDINALITY AS m({", ".join(kept.metrics)}, number)
        WHERE h.at >= %(at)s AND h.at < %(end)s GROUP BY {", ".join(kept.whose)}, begun
    """,
    )


def _pack_into(kept: Kept, target: Any, source: Any, *, part: str, means: str) -> str:
    """Arrays with a place for every part of the time; `means` has the parts in which something was measured."""
    known = ", ".join(f"known.{column}" for column in kept.whose)
    same = " AND ".join(f"found.{column} = known.{column}" for column in kept.whose)
    return f"""
    INSERT INTO {target._meta.db_table} ({", ".join(kept.whose)}, at, {", ".join(kept.metrics)})
    SELECT {known}, %(at)s, {", ".join(f"array_agg(found.{name} ORDER BY part)" for name in kept.metrics)}
    FROM (
        SELECT DISTINCT {", ".join(kept.whose)} FROM {source._meta.db_table} WHERE at >= %(at)s AND at < %(end)s
    ) known
    CROSS JOIN generate_series(%(at)s, %(end)s - interval '{part}', interval '{part}') part
    LEFT JOIN ({means}) found ON {same} AND found.begun = part
    GROUP BY {known}
    ON CONFLICT DO NOTHING
"""


def pack(now: datetime | None = None) -> None:
    """Pack every hour and day that is over, and forget what is kept long enough. Doing it twice changes nothing."""
    now = now or _now()
    hour = (now - SETTLED).replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    for kept in (INSTANCES, DEVICES):
        _pack(_pack_hour(kept), kept.samples, kept.hours, timedelta(hours=1), until=hour)
        _pack(_pack_day(kept), kept.hours, kept.days, timedelta(days=1), until=day)
        kept.samples.objects.filter(at__lt=min(hour, now - RAW_KEPT)).delete()
        kept.hours.objects.filter(at__lt=min(day, now - HOURS_KEPT)).delete()
        kept.days.objects.filter(at__lt=now - DAYS_KEPT).delete()


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
    when = (now - span.seconds - span.step, now + span.step)
    own = _found(INSTANCES, instance.pk, when, span.step).get((), [])
    devices = _found(DEVICES, instance.pk, when, span.step)
    start = span.start(now)
    if span.step < MINUTE:
        # Hosts measure at even distances, but at no even seconds: the places are in step with the latest sample.
        behind = (now - own[-1][1]) % span.step if own else 0
        start = now - behind - (span.seconds // span.step - 0.5) * span.step
    return Series(
        datetime.fromtimestamp(start, UTC),
        span.step,
        _laid(METRICS, own, start, span),
        {device: _laid(DEVICE_METRICS, points, start, span) for (device,), points in devices.items()},
    )


def _laid(metrics: tuple[str, ...], points: Iterable[Found], start: float, span: Span) -> ByMetric:
    """Points on the even grid of a span: means, where there are several in one step."""
    count = span.seconds // span.step
    places: list[list[Values]] = [[] for _ in range(count)]
    for _, at, values in points:
        place = int((at - start) // span.step)
        if 0 <= place < count:
            places[place].append(values)
    columns = zip(*(_mean(found, len(metrics)) for found in places), strict=True)
    return {name: list(column) for name, column in zip(metrics, columns, strict=True)}


def _found(kept: Kept, instance_id: UUID, when: When, step: int) -> dict[Key, list[Found]]:
    """What was measured between two moments, by key, and in the order of time."""
    points: dict[Key, list[Found]] = defaultdict(list)
    for point in _raw(kept, instance_id, when) if step < MINUTE else _packed(kept, instance_id, when, step):
        points[point[0]].append(point)
    return points


def _raw(kept: Kept, instance_id: UUID, when: When) -> Iterator[Found]:
    for key, at, values in _rows(kept, kept.samples, instance_id, when):
        yield key, at, tuple(values)


def _packed(kept: Kept, instance_id: UUID, when: When, step: int) -> Iterator[Found]:
    """Quarters of days, minutes of hours of which there is no day, and samples of which there is no hour."""
    days, hours = set(), set()
    if step >= QUARTER:
        for key, at, columns in _rows(kept, kept.days, instance_id, when, length=86400):
            days.add(at)
            yield from _unpacked(key, at, columns, QUARTER)
    for key, at, columns in _rows(kept, kept.hours, instance_id, when, length=3600):
        hours.add(at)
        if at // 86400 * 86400 not in days:
            yield from _unpacked(key, at, columns, MINUTE)
    for key, at, values in _raw(kept, instance_id, when):
        if at // 3600 * 3600 not in hours and at // 86400 * 86400 not in days:
            yield key, at, values


def _rows(
    kept: Kept, model: Any, instance_id: UUID, when: When, length: int = 0
) -> Iterator[tuple[Key, float, list[Any]]]:
    """Rows that overlap the time between two moments. `length`: how many seconds a row is about."""
    begin, end = (datetime.fromtimestamp(at, UTC) for at in (when[0] - length, when[1]))
    rows = model.objects.filter(instance_id=instance_id, at__gte=begin, at__lt=end).order_by("at")
    of = kept.whose[1:]
    for at, *columns in rows.values_list("at", *of, *kept.metrics):
        yield tuple(columns[: len(of)]), at.timestamp(), columns[len(of) :]


def _unpacked(key: Key, at: float, columns: list[list[float | None] | None], step: int) -> Iterator[Found]:
    for number, values in enumerate(zip_longest(*(column or () for column in columns))):
        yield key, at + number * step, values


def _mean(found: list[Values], count: int) -> Values:
    """Metric by metric, of those that were measured."""
    if len(found) == 1:
        return found[0]
    known = ([value for value in column if value is not None] for column in zip(*found, strict=True))
    return tuple(sum(column) / len(column) if column else None for column in known) if found else (None,) * count
