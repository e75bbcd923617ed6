"""The way around: what the side of every page offers to this viewer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from django.urls import reverse

from cloud.api.scope import Scope
from cloud.tenancy.models import Project, QuotaRequest, Role

MOST_PROJECTS = 30  # in the switcher; the others are found on the page of projects


@dataclass(frozen=True)
class Entry:
    name: str
    url: str
    icon: str
    current: bool = False
    key: str = ""  # pressed after `g`, it goes there
    count: int = 0  # of what waits there


@dataclass(frozen=True)
class Group:
    title: str
    entries: list[Entry] = field(default_factory=list)


PROJECT = (
    ("overview", "Overview", "overview", "home", "o"),
    ("instances", "Instances", "instances", "server", "i"),
    ("images", "Images", "images", "cube", "d"),
    ("keypairs", "Key pairs", "keypairs", "key", "k"),
    ("activity", "Activity", "activity", "activity", "a"),
    ("members", "Members", "members", "people", "m"),
    ("quota", "Quota", "quota", "gauge", "q"),
)
PROJECT_ADMIN = (("settings", "Settings", "project-settings", "cog", "s"),)
CLOUD = (
    ("health", "Health", "health", "pulse", "e"),
    ("capacity", "Capacity", "capacity", "gauge", "y"),
    ("hosts", "Hosts", "hosts", "rack", "h"),
    ("flavors", "Flavors", "flavors", "size", "f"),
    ("projects-admin", "Projects", "cloud-projects", "folder", "p"),
    ("quota-requests", "Requests", "quota-requests", "inbox", "r"),
    ("users", "Users", "users", "person", "u"),
    ("operations", "Operations", "cloud-operations", "cog", "w"),
    ("audit", "Audit", "audit", "book", "l"),
)


def of(scope: Scope, section: str, project: Project | None) -> list[Group]:
    """The groups of entries that a viewer sees, with the one of this page lit."""
    groups = []
    if project is not None:
        table = PROJECT + (PROJECT_ADMIN if getattr(project, "role", "") == Role.ADMIN else ())
        groups.append(Group(project.name, _entries(table, section, [project.name])))
    if scope.is_cloud_admin:
        waiting = QuotaRequest.objects.filter(state=QuotaRequest.State.OPEN).count()
        groups.append(Group("Cloud", _entries(CLOUD, section, [], {"quota-requests": waiting})))
    return groups


def _entries(
    table: tuple[tuple[str, str, str, str, str], ...],
    section: str,
    arguments: list[str],
    counts: Mapping[str, int] = MappingProxyType({}),
) -> list[Entry]:
    return [
        Entry(name, reverse(route, args=arguments), icon, ident == section, key, counts.get(ident, 0))
        for ident, name, route, icon, key in table
    ]
