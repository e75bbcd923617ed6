"""The way around: what the side of every page offers to this viewer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from django.db import connection
from django.urls import reverse

from cloud.api.scope import Scope
from cloud.tenancy.models import Project, Role

MOST_PROJECTS = 30  # in the switcher; the others are found on the page of projects


@dataclass(frozen=True)
class Entry:
    ident: str
    name: str
    url: str
    icon: str
    current: bool = False
    key: str = ""  # pressed after `g`, it goes there
    count: int | None = None  # of what waits there, where something can


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
        groups.append(Group("Cloud", _entries(CLOUD, section, [], waiting())))
    return groups


def waiting() -> dict[str, int]:
    """What waits for the cloud's admins, by the entry that leads to it: requests, and what is wrong. One query."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT (SELECT count(*) FROM tenancy_quotarequest WHERE state = 'open'),
                (SELECT count(*) FROM hosts_hostpulse WHERE silent_since IS NOT NULL)
                + (SELECT count(*) FROM operations_check WHERE count > 0 OR problem <> '')
            """
        )
        requests, wrong = cursor.fetchone()
    return {"quota-requests": requests, "health": wrong}


def _entries(
    table: tuple[tuple[str, str, str, str, str], ...],
    section: str,
    arguments: list[str],
    counts: Mapping[str, int] = MappingProxyType({}),
) -> list[Entry]:
    return [
        Entry(ident, name, reverse(route, args=arguments), icon, ident == section, key, counts.get(ident))
        for ident, name, route, icon, key in table
    ]
