"""The parts of a list's table that are the same everywhere: heads that sort, boxes that select, labels that narrow."""

from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from cloud.pages import words
from cloud.pages.lists import Listing

register = template.Library()


@register.simple_tag(takes_context=True)
def head(context: Any, title: str, sort: str = "", style: str = "") -> SafeString:
    """The head of a column. With a `sort` that the list knows it orders by it, and once more the other way."""
    listing: Listing | None = context.get("listing")
    if listing is None or sort not in listing.sorts:
        return format_html('<th scope="col" class="{}">{}</th>', style, title)
    is_by_this, is_turned = listing.sort.removeprefix("-") == sort, listing.sort == f"-{sort}"
    state = ("descending" if is_turned else "ascending") if is_by_this else "none"
    url = _query(context, sort=f"-{sort}" if is_by_this and not is_turned else sort)
    return format_html(
        '<th scope="col" class="{}" aria-sort="{}"><a class="sorts" href="{}">{}</a></th>', style, state, url, title
    )


@register.simple_tag(takes_context=True)
def pick_all(context: Any) -> SafeString:
    """The head of the boxes, where something can be done with many."""
    if not _has_bulk(context):
        return SafeString("")
    words = "Select all on this page"
    return format_html(
        '<th scope="col" class="pick"><input type="checkbox" data-select-all aria-label="{}" hidden></th>', words
    )


@register.simple_tag(takes_context=True)
def pick(context: Any, row: Any) -> SafeString:
    """The box of a row, where something can be done with many."""
    if not _has_bulk(context):
        return SafeString("")
    return format_html(
        '<td class="pick"><input type="checkbox" form="selection" name="item" value="{0}" id="pick-{0}" '
        'aria-label="Select {1}" data-select></td>',
        row.pk,
        row,
    )


@register.filter
def orders(listing: Listing) -> list[tuple[str, str]]:
    """What a list can be ordered by, for those who see no heads."""
    found = []
    for sort in listing.sorts:
        title = sort.replace("_", " ").capitalize()
        found += [(sort, f"{title} ↑"), (f"-{sort}", f"{title} ↓")]
    return found


@register.simple_tag(takes_context=True)
def with_label(context: Any, key: str, value: str) -> str:
    """The same list, of what has this label too."""
    return _query(context, labels={**context["listing"].asked.labels, key: value})


@register.simple_tag(takes_context=True)
def without_label(context: Any, key: str) -> str:
    found = context["listing"].asked.labels
    return _query(context, labels={other: value for other, value in found.items() if other != key})


@register.filter
def status_words(status: str) -> str:
    return words.subject(status)


def _has_bulk(context: Any) -> bool:
    return bool(context.get("listing") and context["listing"].bulk)


def _query(context: Any, *, labels: dict[str, str] | None = None, **changed: str) -> str:
    """The query string of the page with something else in it, from its first page on."""
    query = context["request"].GET.copy()
    query.pop("page", None)
    if labels is not None:
        query.setlist("label", [f"{key}:{value}" for key, value in labels.items()])
    for name, value in changed.items():
        query[name] = value
    return f"?{query.urlencode()}"
