"""What compute shows on the pages of resources below it: the instances on a host, and those of an image."""

from typing import Any

from cloud.hosts.models import Host
from cloud.pages.base import Page
from compute.models import Instance
from compute.status import reason, with_status
from storage.models import Image

MAX_OF_IMAGE = 20


def on_host(page: Page, host: Host) -> dict[str, Any]:
    placed = with_status(
        Instance.objects.filter(machine__host=host)
        .defer("user_data", "machine__seen_facts", "placement")
        .select_related("flavor", "image", "machine__host", "project")
    )
    shown = page.slice(placed, ("name", "id"))
    return {**shown, "instances": [(instance, reason(instance)) for instance in shown["rows"]]}


def of_image(page: Page, image: Image) -> dict[str, Any]:
    made = Instance.objects.filter(project=page.project, image=image, trashed_at=None).order_by("-created_at", "-pk")
    return {"instances": list(made.only("pk", "name", "created_at")[:MAX_OF_IMAGE])}
