"""The side of every page. Each app registers the places of its own; this shows those that a viewer may go to.

navigation.register(Place("keypairs", "Key pairs", "keypairs", icon="key", key="k", order=40))
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from django.db.models import Count, QuerySet, Value
from django.urls import reverse

from cloud.api.scope import Scope
from cloud.tenancy.models import Project, Role

MAX_PROJECTS = 30  # in the switcher; the others are found on the page of projects


@dataclass(frozen=True)
class Place:
    """A page that the side leads to: of the current project, or of the whole cloud (`for_cloud_admins`)."""

    ident: str  # a page whose `section` this is lights it
    name: str
    route: str
    icon: str
    key: str  # pressed after `g`, it goes there
    order: int
    for_cloud_admins: bool = False
    for_project_admins: bool = False


@dataclass(frozen=True)
class Entry:
    """A place as one viewer sees it."""

    ident: str
    name: str
    url: str
    icon: str
    current: bool = False
    key: str = ""
    count: int | None = None  # of what waits there, where something can


@dataclass(frozen=True)
class Group:
    title: str
    entries: list[Entry] = field(default_factory=list)


_places: dict[str, Place] = {}
_main: list[Place] = []
_waiting: list[tuple[str, Callable[[], QuerySet]]] = []


def register(*places: Place) -> None:
    _places.update({place.ident: place for place in places})


def register_waiting(ident: str, rows: Callable[[], QuerySet]) -> None:
    """Name rows that wait for an admin of the cloud: a place shows how many there are. It may have several kinds."""
    _waiting.append((ident, rows))


def register_main(place: Place) -> None:
    """Name the page of what is done most in a project: its button is above all places, for members."""
    _main.append(place)


def main_of(project: Project | None) -> list[Entry]:
    """The buttons above the places, for a viewer who has this role in the project."""
    if project is None or getattr(project, "role", "") not in (Role.MEMBER, Role.ADMIN):
        return []
    return [_entry(place, "", project) for place in _main]


def of(scope: Scope, section: str, project: Project | None) -> list[Group]:
    """The groups of entries that a viewer sees, with the one of this page lit."""
    groups = []
    if project is not None:
        administers = getattr(project, "role", "") == Role.ADMIN
        own = [place for place in _sorted(for_cloud_admins=False) if administers or not place.for_project_admins]
        groups.append(Group(project.name, [_entry(place, section, project) for place in own]))
    if scope.is_cloud_admin:
        counts = waiting()
        shown = [_entry(place, section, None, counts.get(place.ident)) for place in _sorted(for_cloud_admins=True)]
        groups.append(Group("Cloud", shown))
    return groups


def waiting() -> dict[str, int]:
    """How much waits for the cloud's admins, by the place that leads to it. One query."""
    counts = [
        rows().order_by().annotate(place=Value(ident)).values("place").annotate(n=Count("pk")).values_list("place", "n")
        for ident, rows in _waiting
    ]
    total: Counter[str] = Counter()
    if counts:
        for ident, count in counts[0].union(*counts[1:], all=True):
            total[ident] += count
    return dict(total)


def _sorted(*, for_cloud_admins: bool) -> list[Place]:
    chosen = [place for place in _places.values() if place.for_cloud_admins == for_cloud_admins]
    return sorted(chosen, key=lambda place: place.order)


def _entry(place: Place, section: str, project: Project | None, count: int | None = None) -> Entry:
    url = reverse(place.route, args=[project.name] if project is not None else [])
    return Entry(place.ident, place.name, url, place.icon, place.ident == section, place.key, count)
