"""What a new project begins with, and what goes with a project that is deleted.

An app that gives something registers it in its module `new_projects`, which is imported when Django starts:

    new_projects.register(give=give, take=take)
"""

from typing import Protocol

from cloud.events.services import Actor
from cloud.tenancy.models import Project


class Given(Protocol):
    def __call__(self, *, project: Project, actor: Actor) -> None: ...


_registered: list[tuple[Given, Given]] = []


def register(*, give: Given, take: Given) -> None:
    """`give` furnishes a project that has just been made; `take` takes back what is as it was given, or refuses."""
    _registered.append((give, take))


def furnish(project: Project, actor: Actor) -> None:
    """Give a new project what it begins with."""
    for give, _ in _registered:
        give(project=project, actor=actor)


def clear(project: Project, actor: Actor) -> None:
    """Take back what the project was given. Raises what the apps raise when some of it is in use."""
    for _, take in _registered:
        take(project=project, actor=actor)
