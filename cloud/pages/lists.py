"""How a list is searched, narrowed, ordered and cut into pages: all of it is in its URL.

    ?q=web&status=running&flavor=small&label=tier:front&sort=-name&page=2

A page of a list declares what it can be ordered and narrowed by; see `ListPage` in cloud/pages/generic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.contrib.postgres.aggregates import ArrayAgg
from django.db.models import F, Model, OrderBy, Q, QuerySet
from django.http import QueryDict

from cloud.api.fields import MAX_LABELS
from cloud.pages import rows

MAX_OPTIONS = 200  # of a select
MAX_PAGE = 100_000
PARAMETERS = ("q", "status", "sort", "page", "label")  # of every list, beside its filters


@dataclass(frozen=True)
class By:
    """A filter by the value of a column: a select above the list, and a parameter of its URL."""

    name: str
    column: str
    for_cloud_admins: bool = False

    @property
    def title(self) -> str:
        return self.name.replace("_", " ").capitalize()


@dataclass(frozen=True)
class Asked:
    """What the URL of a list asks for."""

    q: str = ""
    status: str = ""
    sort: str = ""
    page: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)
    by: Mapping[str, str] = field(default_factory=dict)  # filter → value

    @property
    def is_narrowed(self) -> bool:
        return bool(self.q or self.status or self.labels or self.by)


@dataclass(frozen=True)
class Select:
    """A filter as it is shown: with the values that occur."""

    name: str
    title: str
    value: str
    options: Sequence[str]


@dataclass(frozen=True)
class Listing:
    """A page of a list, for its template."""

    asked: Asked
    total: int  # with the filter
    limit: int
    page: int
    sort: str
    sorts: Sequence[str]
    counts: Mapping[str, int]  # by status, with every other filter
    bulk: Sequence[Any] = ()

    @property
    def first(self) -> int:
        return (self.page - 1) * self.limit + 1

    @property
    def last(self) -> int:
        return min(self.page * self.limit, self.total)

    @property
    def previous(self) -> int:
        return self.page - 1

    @property
    def next(self) -> int:
        return self.page + 1 if self.last < self.total else 0

    @property
    def in_all(self) -> int:
        """Of every status."""
        return sum(self.counts.values())


def read(query: QueryDict, filters: Sequence[By], sorts: Mapping[str, Any]) -> Asked:
    """What a query string asks for. What means nothing here is left out."""
    page, sort = query.get("page", ""), query.get("sort", "")
    labels = [_clean(text).partition(":") for text in query.getlist("label")[:MAX_LABELS]]
    return Asked(
        q=_clean(query.get("q", "")),
        status=_clean(query.get("status", "")),
        sort=sort if sort.removeprefix("-") in sorts else "",
        page=int(page) if page.isdecimal() and page.isascii() and 0 < len(page) < 7 and int(page) else 1,
        labels={key: value for key, colon, value in labels if key and colon},
        by={by.name: value for by in filters if (value := _clean(query.get(by.name, "")))},
    )


def narrow(
    found: "QuerySet[Any]", asked: Asked, filters: Sequence[By], searched: Sequence[str], *, has_labels: bool
) -> "QuerySet[Any]":
    """The rows that a URL asks for, of every status. `searched` are the columns in which the text may be."""
    key, equals, value = asked.q.partition("=")
    if has_labels and equals and key.strip():
        found = found.filter(labels__contains={key.strip(): value.strip()})
    else:
        found = rows.search(found, asked.q, searched)
    if asked.labels and has_labels:
        found = found.filter(labels__contains=dict(asked.labels))
    for by in filters:
        if by.name in asked.by:
            found = found.filter(**{by.column: asked.by[by.name]})
    return found


def order(sort: str, sorts: Mapping[str, str | tuple[str, ...]], model: type[Model]) -> list[OrderBy]:
    """The columns of an order, which is one of all rows: the key settles what is equal, in the direction of the last
    column, as an index of both has it. What may be empty comes last."""
    columns = sorts[sort.removeprefix("-")]
    is_turned = sort.startswith("-")
    filled = {field.name for field in model._meta.concrete_fields if not field.null}
    parts, down = [], is_turned
    for column in (columns,) if isinstance(columns, str) else columns:
        name, down = column.removeprefix("-"), column.startswith("-") != is_turned
        if down:  # upwards, they come last by themselves
            parts.append(F(name).desc() if name in filled else F(name).desc(nulls_last=True))
        else:
            parts.append(F(name).asc())
    return [*parts, F("pk").desc() if down else F("pk").asc()]


def selects(every: "QuerySet[Any]", asked: Asked, filters: Sequence[By]) -> list[Select]:
    """The filters with the values that occur among all rows. One query, or none."""
    if not filters:
        return []
    plain = every.model._default_manager.filter(pk__in=every.order_by().values("pk"))
    found = plain.aggregate(
        **{
            f"values_of_{by.name}": ArrayAgg(
                by.column,
                distinct=True,
                default=[],
                filter=~Q(**{by.column: ""}) & Q(**{f"{by.column}__isnull": False}),
            )
            for by in filters
        }
    )
    shown = []
    for by in filters:
        values, chosen = found[f"values_of_{by.name}"][:MAX_OPTIONS], asked.by.get(by.name, "")
        if len(values) > 1 or chosen:
            options = values if not chosen or chosen in values else [chosen, *values]
            shown.append(Select(by.name, by.title, chosen, options))
    return shown


def _clean(text: str) -> str:
    return text.strip().replace("\x00", "")[:255]
