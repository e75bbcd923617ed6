"""What the palette can find. Each app registers how its resources are searched, and places beside the navigation's.

palette.register(Finder("Hosts", find_hosts, order=40))
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cloud.api.scope import Scope
from cloud.pages import navigation

MAX_FOUND = 8  # in a group


@dataclass(frozen=True)
class Item:
    """A line of the palette."""

    name: str
    note: str  # where it is, or what it is
    url: str
    icon: str
    asks: bool = False  # whether it opens in a dialog, which does something when it is confirmed
    fields: Mapping[str, str] | None = None  # sent to `url` by POST as soon as it is chosen


@dataclass(frozen=True)
class Finder:
    """A group of the palette: `find` gives at most so many items that a text means, for a viewer who may see them."""

    title: str
    find: Callable[[Scope, str, int], list[Item]]
    order: int
    word: str = ""  # "console web": a text that begins with it, or with its first part, is meant for such finders alone
    limit: int = MAX_FOUND  # when others are asked too; 0: it is asked by its word only


_finders: list[Finder] = []
_places: list[tuple[int, Callable[[Scope], list[Item]]]] = []


def register(finder: Finder) -> None:
    _finders.append(finder)


def register_places(places: Callable[[Scope], list[Item]], *, order: int) -> None:
    """Pages to go to. The navigation's own have the order 0."""
    _places.append((order, places))


def find(scope: Scope, text: str) -> list[tuple[str, list[Item]]]:
    """What a text could mean, in groups with their titles."""
    chosen = [(finder, rest) for finder in _finders if (rest := _after_word(finder, text)) is not None]
    if chosen:
        groups = [(finder.title, finder.find(scope, rest, MAX_FOUND)) for finder, rest in chosen]
    else:
        groups = [("Go to", _matching_places(scope, text))]
        asked = [finder for finder in _finders if text and finder.limit]
        for finder in sorted(asked, key=lambda finder: finder.order):
            groups.append((finder.title, finder.find(scope, text, finder.limit)))
    return [(title, items) for title, items in groups if items]


def _after_word(finder: Finder, text: str) -> str | None:
    """What follows the finder's word: "web" of "reset-password web", "reset password web" and "reset web"."""
    first, *others = text.split() or [""]
    parts = finder.word.split("-")
    if not first or first.lower() not in (finder.word, parts[0]):
        return None
    for part in parts[1:] if first.lower() == parts[0] else ():
        others = others[1:] if others and others[0].lower() == part else others
    return " ".join(others)


def _matching_places(scope: Scope, text: str) -> list[Item]:
    every = sorted([*_places, (0, _of_navigation)], key=lambda registered: registered[0])
    items = [item for _, places in every for item in places(scope)]
    return [item for item in items if text.lower() in f"{item.name} {item.note}".lower()]


def _of_navigation(scope: Scope) -> list[Item]:
    groups = navigation.of(scope, "", scope.project)
    return [Item(entry.name, group.title, entry.url, entry.icon) for group in groups for entry in group.entries]
