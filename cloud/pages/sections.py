"""What apps add to the pages of a resource that lies below them, and does not know them.

sections.register("host", "compute/host_instances.html", instances_on)       # a section of the page of a host
sections.register_count("host", "instance_count", Instance.objects.all, "machine__host")  # a number in the list
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

if TYPE_CHECKING:
    from cloud.pages.base import Page

Fill = Callable[["Page", Any], dict[str, Any]]  # (the page, its item) → what the section's template needs

_sections: dict[str, list[tuple[str, Fill]]] = {}
_parts: dict[tuple[str, str], str] = {}
_counts: dict[str, dict[str, tuple[Callable[[], QuerySet], str]]] = {}


def register(key: str, template: str, fill: Fill, *, part: str = "") -> None:
    """`part`: the id of the section's element, where it follows events and htmx fetches it alone."""
    _sections.setdefault(key, []).append((template, fill))
    if part:
        _parts[key, part] = template


def part_of(key: str, part: str) -> str:
    """The template of a section that htmx fetches alone; "" when there is none of this id."""
    return _parts.get((key, part), "")


def of(page: "Page", key: str, item: Any) -> dict[str, Any]:
    """The context of all sections of an item's page, and their templates as `sections`."""
    context: dict[str, Any] = {"sections": [template for template, _ in _sections.get(key, [])]}
    for _, fill in _sections.get(key, []):
        context |= fill(page, item)
    return context


def register_count(key: str, name: str, rows: Callable[[], QuerySet], column: str) -> None:
    """`column` of the rows refers to the resource that they are counted for."""
    _counts.setdefault(key, {})[name] = (rows, column)


def counts(key: str, **narrow: Any) -> dict[str, Coalesce]:
    """Annotations for a list of a resource: how many of what other apps have belong to each, narrowed by a filter."""
    return {name: count(rows().filter(**narrow), column) for name, (rows, column) in _counts.get(key, {}).items()}


def count(rows: QuerySet, column: str) -> Coalesce:
    """How many rows refer by a column to the row that is annotated."""
    own = rows.filter(**{column: OuterRef("pk")}).order_by().values(column)
    return Coalesce(Subquery(own.annotate(n=Count("pk")).values("n"), output_field=IntegerField()), 0)
