"""The metrics of an instance for people: plots, and the same in a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloud.pages import words
from compute import samples
from compute.models import Instance

SPAN_WORDS = {"1h": "hour", "1d": "day", "30d": "30 days"}


@dataclass(frozen=True)
class Plot:
    """One picture: its metrics, and what its lines are called."""

    title: str
    unit: str
    lines: dict[str, str]
    unsaid: Mapping[str, str] = field(default_factory=dict)  # metric → words, where the others are known without it
    why: str = "Not measured yet: that takes two looks, ten seconds apart."  # said of a plot that is empty


PLOTS = (
    Plot("CPU", "percent", {"cpu_percent": "CPU"}),
    Plot(
        "Memory",
        "MiB",
        {"guest_memory_mib": "used by the guest", "memory_mib": "held on its host"},
        unsaid={"guest_memory_mib": "The guest does not say what it uses: that takes QEMU and a balloon driver."},
    ),
    Plot("Disk", "bytes/s", {"disk_read_bytes_per_second": "read", "disk_write_bytes_per_second": "written"}),
    Plot("Disk operations", "operations/s", {"disk_reads_per_second": "reads", "disk_writes_per_second": "writes"}),
    Plot(
        "Network",
        "bytes/s",
        {"network_received_bytes_per_second": "received", "network_sent_bytes_per_second": "sent"},
    ),
    Plot(
        "Packets",
        "packets/s",
        {"network_received_packets_per_second": "received", "network_sent_packets_per_second": "sent"},
    ),
    Plot("Refused packets", "packets/s", {"network_dropped_packets_per_second": "refused"}),
)


def shown(instance: Instance, span: str) -> dict[str, Any]:
    """What the page says of an instance's use over a span."""
    if span not in samples.SPANS:
        span = "1h"
    series = samples.series(instance, samples.SPANS[span])
    lines, plots = [], []
    for plot in PLOTS:
        latest, unsaid = [], []
        for name, label in plot.lines.items():
            known = [value for value in series.values[name] if value is not None]
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
                    "share": round(100 * len(known) / len(series.values[name])),
                }
            )
        plots.append(
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
    return {"span": span, "span_words": SPAN_WORDS[span], "plots": plots, "lines": lines, "measured": bool(lines)}
