"""Where is the page about this? Each app registers the types of its subjects, and nobody else needs to know.

    links.register("instance", "instance", in_project=True)

`of` answers for whatever an event, a notification, an alert or an operation is about.
"""

from dataclasses import dataclass
from typing import Any

from django.urls import reverse


@dataclass(frozen=True)
class _Target:
    route: str
    in_project: bool
    has_item: bool
    query: str


_targets: dict[str, _Target] = {}


def register(subject_type: str, route: str, *, in_project: bool, has_item: bool = True, query: str = "") -> None:
    """Name the route of the page about subjects of a type.

    A page `in_project` has the project's name in its path; any other is for admins of the cloud. Where a subject has no
    page of its own (`has_item=False`), `route` is the list that shows it, with `query` narrowing it down.
    """
    _targets[subject_type] = _Target(route, in_project, has_item, query)


def of(subject_type: str, ident: Any, project: str = "", *, for_admins: bool = False) -> str:
    """The path of the page about a subject: below the project of this name, or `for_admins`. "" if there is none."""
    target = _targets.get(subject_type)
    if target is None or not (project if target.in_project else for_admins):
        return ""
    arguments = ([project] if target.in_project else []) + ([str(ident)] if target.has_item else [])
    return reverse(target.route, args=arguments) + target.query
