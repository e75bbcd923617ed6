"""What networks add to the frame of the pages."""

from collections.abc import Callable

from django.db.models import Model
from django.urls import reverse

from cloud.api.scope import Scope
from cloud.pages import links, navigation, palette, sections, words
from cloud.pages.navigation import Place
from cloud.pages.palette import Finder, Item
from cloud.pages.rows import search
from network.models import FloatingIP, Network, Router, SecurityGroup
from network.pages.sections import on_host

navigation.register(
    Place("networks", "Networks", "networks", icon="network", key="n", order=32),
    Place("security-groups", "Security groups", "security-groups", icon="shield", key="t", order=34),
    Place("floating-ips", "Floating IPs", "floating-ips", icon="globe", key="x", order=36),
    Place("address-pools", "Address pools", "address-pools", icon="globe", key="b", order=45, for_cloud_admins=True),
)
sections.register("host", "network/sections/host.html", on_host)
for subject_type, route in {
    "network": "network",
    "subnet": "change-subnet",
    "port": "change-port",
    "router": "router",
    "security_group": "security-group",
    "floating_ip": "change-floating-ip",
    "port_forward": "change-port-forward",
}.items():
    links.register(subject_type, route, in_project=True)
links.register("address_pool", "change-address-pool", in_project=False)
words.SUBJECTS |= {"floating_ip": "floating IP", "security_group_rule": "rule"}
words.VERBS |= {
    "network.router.attach": "attached a subnet to",
    "network.router.detach": "detached a subnet from",
    "associate": "associated",
    "disassociate": "disassociated",
}
FOUND: dict[str, tuple[type[Model], str, str]] = {  # how the palette calls them, the routes of their pages, icons
    "Networks": (Network, "network", "network"),
    "Routers": (Router, "router", "router"),
    "Security groups": (SecurityGroup, "security-group", "shield"),
}


def other_lists(scope: Scope) -> list[Item]:
    """Lists that the navigation does not name."""
    if scope.project is None:
        return []
    name = scope.project.name
    lists = {"Subnets": "subnets", "Ports": "ports", "Routers": "routers", "Port forwards": "port-forwards"}
    return [Item(title, name, reverse(route, args=[name]), "network") for title, route in lists.items()]


def finder(model: type[Model], route: str, icon: str) -> Callable[[Scope, str, int], list[Item]]:
    def find(scope: Scope, text: str, limit: int) -> list[Item]:
        visible = model._default_manager.filter(project__in=scope.projects().values("pk"))
        found = search(visible, text).order_by("name").values_list("pk", "name", "project__name")
        return [Item(name, project, reverse(route, args=[project, pk]), icon) for pk, name, project in found[:limit]]

    return find


def find_addresses(scope: Scope, text: str, limit: int) -> list[Item]:
    """Floating IPs, by name or address."""
    visible = FloatingIP.objects.filter(project__in=scope.projects().values("pk"))
    found = search(visible, text) | visible.filter(address__startswith=text.strip()[:45].replace("\x00", ""))
    rows = found.order_by("name").values_list("pk", "name", "address", "project__name")[:limit]
    return [
        Item(address, f"{name} in {project}", reverse("change-floating-ip", args=[project, pk]), "globe")
        for pk, name, address, project in rows
    ]


palette.register_places(other_lists, order=10)
for title, (model, route, icon) in FOUND.items():
    palette.register(Finder(title, finder(model, route, icon), order=30))
palette.register(Finder("Floating IPs", find_addresses, order=31))
words.limits(
    30,
    networks="Networks",
    subnets="Subnets",
    ports="Ports",
    floating_ips="Floating IPs",
    port_forwards="Port forwards",
    security_groups="Security groups",
    security_group_rules="Security group rules",
    routers="Routers",
)
