"""What can live on a host. Each kind says how its wish is rendered for the host and what to do with a sighting.

Hosts do not know their guests: an app that has some registers them here, from its module `hosted`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from cloud.hosts.models import Host


@dataclass(frozen=True)
class Report:
    """What a host says it sees of one resource."""

    host: Host
    resource_type: str
    resource_id: UUID
    generation: int
    sequence: int
    seen: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Accepted:
    """The report is news, and has been written."""


@dataclass(frozen=True)
class Outdated:
    """The report is about another generation, another host's resource, or older than what is known."""

    generation: int


@dataclass(frozen=True)
class HostedResource:
    """How one kind of resource is ordered, and how its sightings are written."""

    type: str
    spec: Callable[[UUID, str], dict[str, Any]]  # (id, verb) → the whole wish, from the rows as they are now
    record: Callable[[Report], Accepted | Outdated]  # under the operation's lock; locks the resource itself
    owned: Callable[[Host, Iterable[UUID]], set[UUID]]  # which of these the host should have
    reconcile: Callable[[], None] = lambda: None  # opens the operations that make seen what is wanted
    hint: Callable[[Host], None] = lambda _: None  # has open pages look again at what is on the host


_kinds: dict[str, HostedResource] = {}


def register(kind: HostedResource) -> None:
    _kinds[kind.type] = kind


def kind_of(resource_type: str) -> HostedResource | None:
    return _kinds.get(resource_type)


def kinds() -> list[HostedResource]:
    return list(_kinds.values())
