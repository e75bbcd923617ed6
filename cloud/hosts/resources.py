"""The kinds of resources that live on hosts. Hosts know none of them: an app registers its own in a module `hosted`.

What every kind has in common is written here and in `reports`, `orders` and `vanished`, over the rows' base `Hosted`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import F, Func, Model, QuerySet, TextField, Value
from django.db.models.functions import Cast, JSONObject

from cloud.hosts.hosted import BROKEN, GONE, UNKNOWN, Hosted
from cloud.hosts.models import Host, Order
from cloud.operations.models import Operation

HostedModel = type[Hosted]
AnyModel = type[Model]


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


class Stake(NamedTuple):
    """Something that changes when a host is declared lost. `fate`: a word of `FATES`."""

    type: str
    id: UUID
    name: str
    project: str
    fate: str


FATES = ("lost", "taken_over", "interrupted")  # for good; to another host; until what it leads to is started elsewhere


class Offers(NamedTuple):
    """What a host offers to a kind: names that placement looks for, and whether hardware speeds them up."""

    names: frozenset[str] = frozenset()
    accelerated: bool = False


@dataclass(frozen=True, eq=False)  # each is one of a kind, and a key of caches
class HostedResource:
    """One kind of resource: where its rows are, and what is special about it.

    `spec(row, verb)` gives all that is wanted of it, from the rows as they are now; it is never asked about a row
    that is gone. `noticed(row, before)` is called after a report has been written, with the row locked and what was
    seen before; it may start operations. `described(host, capabilities)` is called when a host says something new of
    itself. `reconcile()` opens operations that make seen what is wanted.

    `lose(row, live)` gives up what is of one on a host that is lost, or finds it another place; the operation on it,
    if one is under way, is locked. It is called again until the row is gone. `at_stake(host)` tells what that means.
    """

    type: str
    model: HostedModel
    states: frozenset[str]  # what may be seen of it, besides unknown, broken and gone
    spec: Callable[[Any, str], dict[str, Any]]
    noticed: Callable[[Any, str], None] = lambda row, before: None
    reconcile: Callable[[], None] = lambda: None
    offers: Callable[[Mapping[str, Any]], Offers] = lambda capabilities: Offers()
    lose: Callable[[Any, Operation | None], None] = lambda row, live: None
    at_stake: Callable[[Host], Iterable[Stake]] = lambda host: ()
    described: Callable[[Host, Mapping[str, Any]], None] = lambda host, capabilities: None
    related: tuple[str, ...] = ()  # what `spec` reads with the row
    within: str = ""  # the foreign key to what a row is the incarnation of, if it is one: see `subject`
    project: str = "project_id"  # the path from the row to its project's id
    unit: str = ""  # what one is called on its host, if not by its type
    seen_as: str = "seen"  # what events call the state that is seen
    facts: Mapping[str, Any] = field(default_factory=dict)  # the shapes of what its reports tell beside what all do
    comes_first: bool = False  # what others wait for on their host: its orders are claimed before theirs
    is_work: bool = False  # its rows are work, whose operation tells of it: only what goes wrong is an event of its own

    def takes(self, state: str) -> bool:
        """Whether a host may say this of one."""
        return state in self.states or state in (UNKNOWN, BROKEN, GONE)

    @property
    def subject(self) -> AnyModel:
        """What operations and events are about. It has the id that hosts know, and is locked before the row."""
        if not self.within:
            return self.model
        found: AnyModel = self.model._meta.get_field(self.within).related_model  # type: ignore[assignment]
        return found

    @property
    def id_column(self) -> str:
        """The column of what hosts know one by, for SQL over `model._meta.db_table`."""
        return str(self.model._meta.get_field(self.model.id_on_hosts).column)  # type: ignore[union-attr]

    def rows(self, ids: Iterable[UUID]) -> QuerySet[Any]:
        """The rows that hosts know by these ids: of one id, those on all hosts."""
        return self.model._default_manager.filter(**{f"{self.model.id_on_hosts}__in": list(ids)})

    def owned(self, host: Host, ids: Iterable[UUID]) -> set[UUID]:
        """Which of these a host should have: what is placed there, and what it has orders to remove."""
        wanted = list(ids)
        placed = self.rows(wanted).filter(host=host).values_list(self.model.id_on_hosts, flat=True)
        ordered = Order.objects.filter(host=host, resource_type=self.type, resource_id__in=wanted, answered_at=None)
        return {*placed, *ordered.values_list("resource_id", flat=True)}

    def hint(self, host: Host) -> None:
        """Have open pages look again at all of them that are on a host."""
        told = JSONObject(project=F(self.project), type=Value(self.type), id=F(self.model.id_on_hosts))
        notified = Func(Value("hints"), Cast(told, TextField()), function="pg_notify", output_field=TextField())
        list(self.model._default_manager.filter(host=host).values_list(notified))


_kinds: dict[str, HostedResource] = {}


def register(kind: HostedResource) -> None:
    _kinds[kind.type] = kind


def kind_of(resource_type: str) -> HostedResource | None:
    return _kinds.get(resource_type)


def kinds() -> list[HostedResource]:
    return list(_kinds.values())
