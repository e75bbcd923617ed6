"""How busy hosts are, as they measure it: kept minute by minute for a day, beside what is allocated on them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Avg, F, Func

from cloud.api.ranges import Ranges, Span
from cloud.hosts.models import Host, HostLoad

KEPT = timedelta(hours=25)
METRICS = {"cpu_percent": "percent", "memory_mib": "MiB", "disk_gib": "GiB"}  # and their units
SPANS = {"1h": Span(3600, 60), "1d": Span(86400, 300)}
RANGES = Ranges(SPANS, {60: KEPT})
_INSERT = """
    INSERT INTO hosts_hostload (host_id, at, cpu_percent, memory_mib, disk_gib)
    VALUES (%s, date_trunc('minute', now()), %s, %s, %s) ON CONFLICT DO NOTHING
"""


def note(host: Host, load: Mapping[str, float]) -> None:
    """Keep what a heartbeat says, unless this minute has it already."""
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [host.pk, *(load[name] for name in METRICS)])


def series(host: Host, span: Span) -> dict[str, Any]:
    """`{"start", "step_seconds", "metrics": {name: {"unit", "values"}}}`: even steps, null where nothing was heard."""
    count = span.seconds // span.step
    start = span.start(datetime.now(UTC).timestamp())
    place = Func(F("at"), template=f"floor((extract(epoch from %(expressions)s) - {start}) / {span.step})::int")
    rows = (
        host.loads.filter(at__gte=_at(start), at__lt=_at(start + span.seconds))
        .order_by()
        .values(place=place)
        .annotate(**{f"mean_{name}": Avg(name) for name in METRICS})
    )
    found: dict[int, Any] = {row["place"]: row for row in rows}
    return {
        "start": _at(start).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "step_seconds": span.step,
        "metrics": {
            name: {
                "unit": unit,
                "values": [
                    round(found[number][f"mean_{name}"], 1) if number in found else None for number in range(count)
                ],
            }
            for name, unit in METRICS.items()
        },
    }


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def forget() -> int:
    """Delete what is kept long enough. Returns how many rows that were."""
    return HostLoad.objects.filter(at__lt=datetime.now(UTC) - KEPT).delete()[0]
