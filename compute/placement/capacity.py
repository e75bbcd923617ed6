"""How many more instances of each flavor fit, as if they were placed one after the other until nothing fits.

Free capacity summed over hosts promises what no host can hold. Instances of one flavor do not compete about where they
go, so placing them until nothing fits fills every host to its floor: the least of what its free vCPUs, memory and disk
allow. That is one statement over all hosts, by the rules of placement.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import F, Func, IntegerField, Q, QuerySet, Sum

from cloud.hosts.models import Host
from cloud.hosts.silence import reachable_since
from compute.models import Flavor
from compute.placement.rules import Enabled, Reachable, Virtualised, Wish, parameters
from storage.models import Image

FITS = f"""
    SELECT f.id, h.offers, sum(fits.n), count(*) FILTER (WHERE fits.n > 0)
    FROM hosts_host h JOIN hosts_hostpulse p ON p.host_id = h.id
        CROSS JOIN compute_flavor f
        CROSS JOIN LATERAL (SELECT greatest(0, least(
            h.free_vcpus / f.vcpus, h.free_memory_mib / f.memory_mib, h.free_disk_gib / f.disk_gib)) AS n) fits
    WHERE f.enabled AND {Enabled.condition} AND {Reachable.condition} AND {Virtualised.condition}
        AND h.id IS DISTINCT FROM %(without)s::uuid
    GROUP BY f.id, h.offers
"""


@dataclass(frozen=True)
class ImageKind:
    """Images that the same hosts can run."""

    architecture: str
    hypervisors: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.architecture}, {' or '.join(self.hypervisors)}"


@dataclass(frozen=True)
class Fit:
    """How many more of a flavor with an image of this kind, on how many hosts."""

    kind: ImageKind
    count: int
    hosts: int


def image_kinds() -> list[ImageKind]:
    """The kinds of the images that are there."""
    known = Image.objects.values_list("architecture", "hypervisors").order_by("architecture").distinct()
    return sorted({ImageKind(architecture, tuple(found)) for architecture, found in known}, key=str)


def fits(*, without: UUID | None = None) -> list[tuple[Flavor, list[Fit]]]:
    """For every enabled flavor, what fits of it with each kind of image; `without` one host, as if it were cordoned."""
    flavors = list(Flavor.objects.filter(enabled=True).order_by("memory_mib", "vcpus", "name"))
    kinds = image_kinds()
    nothing = Wish(vcpus=0, memory_mib=0, disk_gib=0, runs=())
    with connection.cursor() as cursor:
        cursor.execute(FITS, {**parameters(nothing), "without": without})
        rows = cursor.fetchall()
    room: dict[UUID, list[tuple[set[str], int, int]]] = {}
    for flavor_id, runs, count, hosts in rows:
        room.setdefault(flavor_id, []).append((set(runs), int(count), hosts))
    return [(flavor, [_fit(flavor, kind, room.get(flavor.pk, ())) for kind in kinds]) for flavor in flavors]


def _fit(flavor: Flavor, kind: ImageKind, room: Iterable[tuple[set[str], int, int]]) -> Fit:
    size = {"vcpus": flavor.vcpus, "memory_mib": flavor.memory_mib, "disk_gib": flavor.disk_gib}
    wish = Wish.of_size(**size, hypervisors=kind.hypervisors, architecture=kind.architecture)
    able = [(count, hosts) for runs, count, hosts in room if runs & set(wish.runs)]
    return Fit(kind, sum(count for count, _ in able), sum(hosts for _, hosts in able))


def totals() -> dict[str, Any]:
    """What all hosts have, have sold and have left; `out_of_service` is free where nothing is placed."""
    usable = Q(enabled=True, quarantined="", pulse__seen_at__gte=reachable_since())
    sold = Func(F("vcpus") * F("vcpu_overcommit"), function="floor", output_field=IntegerField())
    every: QuerySet[Host] = Host.objects.annotate(sold_vcpus=sold)
    sums = every.aggregate(
        real_vcpus=Sum("vcpus", default=0),
        **{f"all_{kind}": Sum(column, default=0) for kind, column in WHOLE.items()},
        **{f"open_{kind}": Sum(f"free_{kind}", default=0, filter=usable) for kind in WHOLE},
        **{f"lost_{kind}": Sum(f"free_{kind}", default=0, filter=~usable) for kind in WHOLE},
    )
    table: dict[str, Any] = {
        kind: {
            "whole": sums[f"all_{kind}"],
            "used": sums[f"all_{kind}"] - sums[f"open_{kind}"] - sums[f"lost_{kind}"],
            "free": sums[f"open_{kind}"],
            "out_of_service": sums[f"lost_{kind}"],
        }
        for kind in WHOLE
    }
    table["vcpus"]["real"] = sums["real_vcpus"]
    table["hosts"] = {"all": every.count(), "usable": every.filter(usable).count()}
    return table


WHOLE = {"vcpus": "sold_vcpus", "memory_mib": "memory_mib", "disk_gib": "disk_gib"}
