"""The metrics of an instance for people."""

from typing import Any

from django.http import QueryDict

from cloud.pages import plots
from cloud.pages.plots import Plot
from compute import devices, samples
from compute.models import DISK_METRICS, NIC_METRICS, Instance

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


OF_A_DISK = (
    ("", "bytes/s", {"disk_read_bytes_per_second": "read", "disk_write_bytes_per_second": "written"}),
    (", operations", "operations/s", {"disk_reads_per_second": "reads", "disk_writes_per_second": "writes"}),
)
OF_A_NIC = (
    ("", "bytes/s", {"network_received_bytes_per_second": "received", "network_sent_bytes_per_second": "sent"}),
    (
        ", packets",
        "packets/s",
        {"network_received_packets_per_second": "received", "network_sent_packets_per_second": "sent"},
    ),
)
GROUPS = (("disks", "Each disk", "Disk", DISK_METRICS, OF_A_DISK), ("nics", "Each NIC", "NIC", NIC_METRICS, OF_A_NIC))


def shown(instance: Instance, query: QueryDict) -> dict[str, Any]:
    """What the page says of an instance's use, over the span or the range that its address asks for."""
    asked = samples.RANGES.asked(query)
    series = samples.series(instance, asked.span)
    named, values, groups = devices.names_of(instance, series), dict(series.values), []
    for kind, title, noun, metrics, pictures in GROUPS:
        found = sorted(devices.of_kind(series, metrics), key=lambda one: one != instance.pk)  # its own disk first
        values |= {f"{kind}/{one}/{name}": series.devices[one][name] for one in found for name in metrics}
        own = [
            Plot(
                f"{noun} {named.get(one) or 'that is gone'}{of}",
                unit,
                {f"{kind}/{one}/{name}": words for name, words in lines.items()},
            )
            for one in found
            for of, unit, lines in pictures
        ]
        groups.append((title, own))
    return plots.shown(
        PLOTS, values, asked, samples.SPANS, start=series.start, since=instance.created_at, groups=groups
    )
