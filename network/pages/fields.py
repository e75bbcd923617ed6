"""Members of bodies about networks, as lines of a form: ranges, routes, addresses, pairs; and choices to tick."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.http import QueryDict

from cloud.pages.forms import Field, whole


def lines(post: QueryDict, name: str) -> list[str]:
    return [text for line in post.get(name, "").splitlines() if (text := line.strip())]


def of_lines(read: Callable[[str], Any], write: Callable[[Any], str] = str, *, may_be_left_out: bool = False) -> Field:
    """A list with one item a line. Where it may be left out, no lines mean that nothing is said."""

    def read_all(post: QueryDict, name: str) -> dict[str, Any]:
        found = [read(line) for line in lines(post, name)]
        return {} if may_be_left_out and not found else {name: found}

    return Field(read_all, lambda items: "\n".join(map(write, items)))


def _range(line: str) -> dict[str, str]:
    first, _, last = line.partition("-")
    return {"first": first.strip(), "last": last.strip() or first.strip()}


def _route(line: str) -> dict[str, str]:
    destination, _, hop = line.replace(" via ", " ").partition(" ")
    return {"destination": destination, "next_hop": hop.strip()}


def _pair(line: str) -> dict[str, str]:
    address, _, mac = line.partition(" ")
    return {"address": address, **({"mac": mac.strip()} if mac.strip() else {})}


def _range_words(one: Mapping[str, str]) -> str:
    return f"{one['first']} - {one['last']}"


RANGES = of_lines(_range, _range_words)  # 10.0.0.2 - 10.0.0.99
NEW_RANGES = of_lines(_range, may_be_left_out=True)
ROUTES = of_lines(_route, lambda one: f"{one['destination']} via {one['next_hop']}")
PAIRS = of_lines(_pair, lambda one: f"{one['address']} {one.get('mac', '')}".strip())
SERVERS = of_lines(str)
NEW_ADDRESSES = of_lines(lambda line: {"address": line}, may_be_left_out=True)
GATEWAY = Field(  # empty: the first address; "none": no way out
    lambda post, name: {name: None if text == "none" else text} if (text := post.get(name, "").strip()) else {}
)
NUMBER = Field(whole)  # that may be left out
TICKED = Field(lambda post, name: {name: post.getlist(name)}, lambda rows: [str(row.pk) for row in rows.all()])


def choices(rows: Iterable[Any], words: Callable[[Any], str] = str) -> list[tuple[str, str]]:
    """Of a select: ids and words."""
    return [(str(row.pk), words(row)) for row in rows]
