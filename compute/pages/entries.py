"""What compute adds to the frame of the pages."""

from uuid import UUID

from django.db.models import OuterRef, Subquery
from django.urls import reverse

from cloud.api.scope import Scope
from cloud.pages import links, navigation, palette, sections, words
from cloud.pages.navigation import Place
from cloud.pages.palette import Finder, Item
from cloud.pages.rows import search
from cloud.tenancy.models import Role
from compute.models import Instance
from compute.pages.sections import of_image, on_host
from compute.verbs import WORK

navigation.register(
    Place("instances", "Instances", "instances", icon="server", key="i", order=20),
    Place("keypairs", "Key pairs", "keypairs", icon="key", key="k", order=40),
    Place("capacity", "Capacity", "capacity", icon="gauge", key="y", order=20, for_cloud_admins=True),
    Place("flavors", "Flavors", "flavors", icon="size", key="f", order=40, for_cloud_admins=True),
)
links.register("instance", "instance", in_project=True)
for key, column in (("host", "machine__host"), ("image", "image"), ("project", "project")):
    sections.register_count(key, "instance_count", Instance.objects.all, column)
for work in WORK:
    words.OPERATIONS[work.workflow.kind] = work.gerund.capitalize()
    words.VERBS[work.name] = work.past
    words.STEPS |= work.steps
words.FILTERED += dict.fromkeys(work.name for work in WORK)
sections.register("host", "compute/sections/host.html", on_host)
sections.register("image", "compute/sections/image.html", of_image)


def launching(scope: Scope) -> list[Item]:
    if scope.project is None:
        return []
    name = scope.project.name
    return [Item("Launch an instance", name, reverse("launch", args=[name]), "plus")]


def find_instances(scope: Scope, text: str, limit: int) -> list[Item]:
    return [
        Item(name, project, reverse("instance", args=[project, ident]), "server")
        for ident, name, project, _ in _instances(scope, text, limit)
    ]


def find_consoles(scope: Scope, text: str, limit: int) -> list[Item]:
    """Straight to the serial console, where the viewer may type."""
    return [
        Item(f"Console of {name}", project, reverse("console", args=[project, ident]), "terminal")
        for ident, name, project, role in _instances(scope, text, palette.MAX_FOUND)
        if role != Role.VIEWER
    ][:limit]


def _instances(scope: Scope, text: str, limit: int) -> list[tuple[UUID, str, str, str]]:
    """Instances that the viewer may see: id, name, project, and the viewer's role there."""
    visible = scope.projects()
    found = search(Instance.objects.filter(project__in=visible.values("pk")), text).order_by("name")
    role = Subquery(visible.filter(pk=OuterRef("project")).values("role"))  # type: ignore[misc]  # annotated
    return list(found.values_list("pk", "name", "project__name", role)[:limit])


palette.register_places(launching, order=-20)
palette.register(Finder("Instances", find_instances, order=10))
palette.register(Finder("Consoles", find_consoles, order=20, word="console", limit=3))
