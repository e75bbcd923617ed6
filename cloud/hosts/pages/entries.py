"""What hosts add to the frame of the pages."""

from django.urls import reverse

from cloud.api.scope import Scope
from cloud.hosts.models import Host, HostPulse
from cloud.pages import links, navigation, palette, words
from cloud.pages.navigation import Place
from cloud.pages.palette import Finder, Item
from cloud.pages.rows import search

navigation.register(Place("hosts", "Hosts", "hosts", icon="rack", key="h", order=30, for_cloud_admins=True))
navigation.register_waiting("health", lambda: HostPulse.objects.filter(silent_since__isnull=False, host__lost_at=None))
links.register("host", "host", in_project=False)


def find_hosts(scope: Scope, text: str, limit: int) -> list[Item]:
    if not scope.is_cloud_admin:
        return []
    found = search(Host.objects.only("name"), text).order_by("name")[:limit]
    return [Item(host.name, "host", reverse("host", args=[host.pk]), "rack") for host in found]


palette.register(Finder("Hosts", find_hosts, order=40))
words.VERBS |= {
    "join": "joined as",
    "remove_unowned": "removed a machine that no instance owns from",
    "lose": "lost sight of",
    "hear": "hears again of",
    "seen": "reported on",
    "declare_lost": "declared lost",
    "leave_behind": "gave up what no other host reaches of",
    "lose_with_host": "declared lost with its host",
}
words.FILTERS["seen"] = "seen by hosts"
