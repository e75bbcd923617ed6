"""What networks show on the page of a host: whether it carries them, and what it lacks for that."""

from typing import Any

from cloud.hosts.models import Host
from cloud.pages.base import Page


def on_host(page: Page, host: Host) -> dict[str, Any]:
    said = Host.objects.values_list("capabilities__network", flat=True).get(pk=host.pk) or {}
    lacking = [*said.get("missing", {}).values(), said.get("way_out"), said.get("way_out6"), said.get("tunnels")]
    return {"carries_networks": bool(said.get("networks")), "network_words": [words for words in lacking if words]}
