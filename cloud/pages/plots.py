"""Series for people: plots, and the same numbers in a table. `pages/metrics.js` draws them, and asks for newer ones."""

from collections.abc import Iterable, Mapping, Sequence
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
) -> dict[str, Any]:
    """What `pages/parts/metrics.html` says of series: `values` by metric, None where nothing was measured.

    `start`: when they begin; `since`: when that began which they are about. What lies before is left out.
    """
    skipped = _skipped(asked, start, since)
    lines, pictures = [], []
    for plot in plots:
        latest, unsaid = [], []
        for name, label in plot.lines.items():
            own = values[name][skipped:]
            known = [value for value in own if value is not None]
            if not known:
                unsaid += [plot.unsaid[name]] if name in plot.unsaid else []
                continue
            title = plot.title if len(plot.lines) == 1 else f"{plot.title}, {label}"
            latest.append(words.measure(known[-1], plot.unit) + (f" {label}" if len(plot.lines) > 1 else ""))
            lines.append(
                {
                    "metric": name,
                    "unit": plot.unit,
                    "title": title,
                    "latest": words.measure(known[-1], plot.unit),
                    "mean": words.measure(sum(known) / len(known), plot.unit),
                    "highest": words.measure(max(known), plot.unit),
                    "share": round(100 * len(known) / len(own)),
                }
            )
        pictures.append(
            {
                "title": plot.title,
                "unit": plot.unit,
                "metrics": " ".join(plot.lines),
                "words": ",".join(plot.lines.values()),
                "known": bool(latest),
                "now": ", ".join(latest),
                "why": plot.why,
                "unsaid": unsaid if latest else [],
            }
        )
    begin = start.astimezone(UTC)
    until = asked.span.until or begin + timedelta(seconds=asked.span.seconds)
    return {
        "span": asked.name,
        "spans": {name: SPANS[name] for name in spans},
        "span_words": "Since it was made" if skipped else SPAN_WORDS.get(asked.name) or _between(begin, until),
        "range": {} if asked.name else {"from": begin, "to": until, "is_live": asked.span.until is None},
        "since": round(since.timestamp()),
        "min_steps": MIN_STEPS,
        "plots": pictures,
        "lines": lines,
        "measured": bool(lines),
    }


def _skipped(asked: Asked, start: datetime, since: datetime) -> int:
    """How many steps of a span lie before the beginning. A range is shown as it was asked for."""
    if not asked.name or since <= start:
        return 0
    count = asked.span.seconds // asked.span.step
    return max(0, min(int((since - start).total_seconds() // asked.span.step), count - MIN_STEPS))


def _between(begin: datetime, until: datetime) -> str:
    return f"{begin:%d %b %H:%M} to {until:%d %b %H:%M} UTC"
