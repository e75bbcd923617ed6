"""The caches of hosts, on the pages of hosts and, for admins of the cloud, of images."""

from typing import TYPE_CHECKING, Any

from django.db.models import Q

from cloud.hosts.models import Host, HostPulse
from storage.models import CachedFile, Image

if TYPE_CHECKING:
    from cloud.pages.base import Page

MAX_SHOWN = 20


def of_host(page: "Page", host: Host) -> dict[str, Any]:
    rows = CachedFile.objects.filter(host=host)
    latest = list(rows.select_related("came_from").order_by("-since", "pk")[:MAX_SHOWN])
    made_of = Q()
    for row in latest:
        made_of |= Q(files__contains=[{"sha256": row.sha256}])
    images = Image.objects.filter(made_of).only("name", "files") if latest else []
    by_file = {file["sha256"]: image for image in images for file in image.files}
    for row in latest:
        row.image = by_file.get(row.sha256)  # type: ignore[attr-defined]
    cache = Host.objects.values_list("capabilities__image_cache", flat=True).get(pk=host.pk) or {}
    told = HostPulse.objects.filter(host=host).values_list("problems", flat=True).first() or []
    return {
        "cached": latest,
        "cached_count": rows.count(),
        "cache_serves": cache.get("serves"),
        "cache_served": cache.get("served", {}),
        "cache_problem": next((one["problem"] for one in told if one["what"] == "peers"), ""),
    }


def of_image(page: "Page", image: Image) -> dict[str, Any]:
    """Tenants do not see hosts."""
    if not page.scope.is_cloud_admin:
        return {"shows_caches": False}
    rows = CachedFile.objects.filter(sha256__in=[file["sha256"] for file in image.files])
    latest = rows.select_related("host", "came_from").order_by("-since", "pk")[:MAX_SHOWN]
    return {"shows_caches": True, "cached": list(latest), "cached_count": rows.count()}
