"""Series for people: plots, and the same numbers in a table. `pages/metrics.js` draws them, and asks for newer ones."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cloud.api.ranges import Asked
from cloud.pages import words

SPANS = {"1h": "1 hour", "1d": "1 day", "30d": "30 days"}
SPAN_WORDS = {"1h": "The last hour", "1d": "The last day", "30d": "The last 30 days"}
MIN_STEPS = 12  # of a young resource: less would look like nothing


@dataclass(frozen=True)
class Plot:
    """One picture: its metrics, and what its lines are called."""

    title: str
    unit: str
    lines: dict[str, str]
    unsaid: Mapping[str, str] = field(default_factory=dict)  # metric → words, where the others are known without it
    why: str = "Not measured yet: that takes two looks, ten seconds apart."  # said of a plot that is empty


def shown(
    plots: Sequence[Plot],
    values: Mapping[str, Sequence[float | None]],
    asked: Asked,
    spans: Iterable[str],
    *,
    start: datetime,
    since: datetime,
    groups: Iterable[tuple[str, Sequence[Plot]]] = (),
) -> dict[str, Any]:
    """What `pages/parts/metrics.html` says of series: `values` by metric, None where nothing was measured.

    `start`: when they begin; `since`: when that began which they are about. What lies before is left out. `groups` have
    a title and further plots, which are looked at when they are opened.
    """
    skipped = _skipped(asked, start, since)
    own = {name: found[skipped:] for name, found in values.items()}
    folded = [(title, further) for title, further in groups if further]
    lines = [
        line for each in (plots, *(further for _, further in folded)) for plot in each for line in _lines(plot, own)
    ]
    begin = start.astimezone(UTC)
    until = asked.span.until or begin + timedelta(seconds=asked.span.seconds)
    return {
        "span": asked.name,
        "spans": {name: SPANS[name] for name in spans},
        "span_words": "Since it was made" if skipped else SPAN_WORDS.get(asked.name) or _between(begin, until),
        "range": {} if asked.name else {"from": begin, "to": until, "is_live": asked.span.until is None},
        "since": round(since.timestamp()),
        "min_steps": MIN_STEPS,
        "plots": [_picture(plot, own) for plot in plots],
        "groups": [(title, [_picture(plot, own) for plot in further]) for title, further in folded],
        "lines": lines,
        "measured": bool(lines),
    }


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _picture(plot: Plot, values: Mapping[str, Sequence[float | None]]) -> dict[str, Any]:
    """What stands with a plot until it is drawn: its latest values in words."""
    known = {name: _known(values[name]) for name in plot.lines}
    latest = [
        words.measure(known[name][-1], plot.unit) + (f" {label}" if len(plot.lines) > 1 else "")
        for name, label in plot.lines.items()
        if known[name]
    ]
    return {
        "title": plot.title,
        "unit": plot.unit,
        "metrics": " ".join(plot.lines),
        "words": ",".join(plot.lines.values()),
        "known": bool(latest),
        "now": ", ".join(latest),
        "why": plot.why,
        "unsaid": [told for name, told in plot.unsaid.items() if latest and not known[name]],
    }


def _lines(plot: Plot, values: Mapping[str, Sequence[float | None]]) -> Iterator[dict[str, Any]]:
    """The rows of the table: one for each metric that was measured."""
    for name, label in plot.lines.items():
        if known := _known(values[name]):
            yield {
                "metric": name,
                "unit": plot.unit,
                "title": plot.title if len(plot.lines) == 1 else f"{plot.title}, {label}",
                "latest": words.measure(known[-1], plot.unit),
                "mean": words.measure(sum(known) / len(known), plot.unit),
                "highest": words.measure(max(known), plot.unit),
                "share": round(100 * len(known) / len(values[name])),
            }


def _skipped(asked: Asked, start: datetime, since: datetime) -> int:
    """How many steps of a span lie before the beginning. A range is shown as it was asked for."""
    if not asked.name or since <= start:
        return 0
    count = asked.span.seconds // asked.span.step
    return max(0, min(int((since - start).total_seconds() // asked.span.step), count - MIN_STEPS))


def _between(begin: datetime, until: datetime) -> str:
    return f"{begin:%d %b %H:%M} to {until:%d %b %H:%M} UTC"
