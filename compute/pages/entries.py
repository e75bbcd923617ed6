"""What compute adds to the frame of the pages."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db.models import OuterRef, QuerySet, Subquery
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from cloud.api.scope import Scope
from cloud.pages import links, navigation, palette, sections, words
from cloud.pages.navigation import Place
from cloud.pages.palette import Finder, Item
from cloud.pages.rows import search
from cloud.tenancy.models import Role
from compute.models import Instance
from compute.pages.attaching import SHOWN_ON, of_volume
from compute.pages.sections import of_image, on_host
from compute.status import as_listed
from compute.verb import Verb
from compute.verbs import VERBS, WORK

navigation.register(
    Place("instances", "Instances", "instances", icon="server", key="i", order=20),
    Place("keypairs", "Key pairs", "keypairs", icon="key", key="k", order=40),
    Place("capacity", "Capacity", "capacity", icon="gauge", key="y", order=20, for_cloud_admins=True),
    Place("all-instances", "All instances", "all-instances", icon="server", key="I", order=15, for_cloud_admins=True),
    Place("flavors", "Flavors", "flavors", icon="size", key="f", order=40, for_cloud_admins=True),
)
links.register("instance", "instance", in_project=True)
for key, column in (("host", "machine__host"), ("image", "image"), ("project", "project")):
    sections.register_count(key, "instance_count", Instance.objects.all, column)
for work in WORK:
    words.OPERATIONS[work.workflow.kind] = work.gerund.capitalize()
    words.VERBS[work.name] = work.past
    words.STEPS |= work.steps
words.OPERATIONS["compute.drain"] = "Emptying"
words.VERBS |= {"drain": "began to empty", "console": "opened a console of"}
words.STEPS |= {"move_next": "Move one after the other", "stop_moving": "End what is under way"}
words.FILTERED += dict.fromkeys(work.name for work in WORK)
sections.register("host", "compute/sections/host.html", on_host)
sections.register("image", "compute/sections/image.html", of_image)
sections.register("volume", "compute/sections/volume.html", of_volume, part=SHOWN_ON)


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


def finder_of(verb: Verb) -> Callable[[Scope, str, int], list[Item]]:
    """Instances that the verb can be done with now, by those who may: "stop web"."""

    def find(scope: Scope, text: str, limit: int) -> list[Item]:
        may = scope.projects().exclude(role=Role.VIEWER).values("pk")  # type: ignore[misc]  # annotated
        instances = search(_listed(Instance.objects.filter(project__in=may, trashed_at=None)), text)
        return [
            Item(
                f"{verb.label} {instance.name}",
                instance.project.name,
                reverse("instance-verb", args=[instance.project.name, instance.pk, verb.name]),
                verb.icon,
                asks=True,
            )
            for instance in instances.order_by("name")[: 4 * limit]
            if not (verb.why_not(instance) or verb.already(instance))
        ][:limit]

    return find


def _listed(instances: "QuerySet[Instance]") -> "QuerySet[Any]":
    return as_listed(instances.select_related("project"), "machine__host__capabilities", "project__name")


def _instances(scope: Scope, text: str, limit: int) -> list[tuple[UUID, str, str, str]]:
    """Instances that the viewer may see: id, name, project, and the viewer's role there."""
    visible = scope.projects()
    found = search(Instance.objects.filter(project__in=visible.values("pk"), trashed_at=None), text).order_by("name")
    role = Subquery(visible.filter(pk=OuterRef("project")).values("role"))  # type: ignore[misc]  # annotated
    return list(found.values_list("pk", "name", "project__name", role)[:limit])


palette.register_places(launching, order=-20)
palette.register(Finder("Instances", find_instances, order=10))
for verb in VERBS.values():
    palette.register(Finder(f"{verb.label} an instance", finder_of(verb), order=15, word=verb.name, limit=0))
palette.register(Finder("Consoles", find_consoles, order=20, word="console", limit=3))
words.limits(10, instances="Instances", vcpus="vCPUs", memory_mib="Memory")
words.limits(12, disk_gib="Instance disks", keypairs="Key pairs")
words.tones("good", "running")
words.tones("idle", "stopped", "suspended")
words.tones("warn", "paused", "rescue")
words.tones("bad", "unreachable")
words.VERBS |= {
    "power_off": "powered off",
    "console": "opened a console of",
    "allocate": "booked room again for",
}
words.UNSAID |= {"seen_power", "wanted_power", "power"}


def was_seen(told: words.Telling) -> SafeString:
    by = "its host" if told.is_for_tenants else told.actor
    return format_html("{} is {}, says {}", told.subject, told.after.get("power", "?"), by)


words.SENTENCES["compute.instance.seen"] = was_seen
navigation.register_main(Place("launch", "Launch", "launch", icon="plus", key="", order=0))
