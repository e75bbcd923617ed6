"""Series for people: plots, and the same numbers in a table. `pages/metrics.js` draws them, and asks for newer ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloud.pages import words

SPANS = {"1h": "1 hour", "1d": "1 day", "30d": "30 days"}
SPAN_WORDS = {"1h": "hour", "1d": "day", "30d": "30 days"}


@dataclass(frozen=True)
class Plot:
    """One picture: its metrics, and what its lines are called."""

    title: str
    unit: str
    lines: dict[str, str]
    unsaid: Mapping[str, str] = field(default_factory=dict)  # metric → words, where the others are known without it
    why: str = "Not measured yet: that takes two looks, ten seconds apart."  # said of a plot that is empty


def shown(plots: Sequence[Plot], values: Mapping[str, Sequence[float | None]], span: str) -> dict[str, Any]:
    """What `pages/parts/metrics.html` says of series: `values` by metric, None where nothing was measured."""
    lines, pictures = [], []
    for plot in plots:
        latest, unsaid = [], []
        for name, label in plot.lines.items():
            known = [value for value in values[name] if value is not None]
            if not known:
                unsaid += [plot.unsaid[name]] if name in plot.unsaid else []
                continue
            title = plot.title if len(plot.lines) == 1 else f"{plot.title}, {label}"
            latest.append(words.measure(known[-1], plot.unit) + (f" {label}" if len(plot.lines) > 1 else ""))
            lines.append(
                {
                    "title": title,
                    "latest": words.measure(known[-1], plot.unit),
                    "mean": words.measure(sum(known) / len(known), plot.unit),
                    "highest": words.measure(max(known), plot.unit),
                    "share": round(100 * len(known) / len(values[name])),
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
    return {"span": span, "span_words": SPAN_WORDS[span], "plots": pictures, "lines": lines, "measured": bool(lines)}
