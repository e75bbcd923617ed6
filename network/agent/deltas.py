"""What is different between two specs: of a network of a thousand ports, a rule that was added is some hundred bytes.

Specs are JSON. A difference is, too:

    {"to": value}                                    it is another value
    {"members": {name: difference}, "without": […]}  of an object: what differs or is new; the names that are gone
    {"items": [[index, difference]…]}                of a list as long as it was: items that differ
    {"less": [index…], "more": [value…]}             of a list: items that are gone, and what comes after the others
"""

from itertools import compress
from typing import Any

Difference = dict[str, Any]


def between(before: Any, after: Any) -> Difference | None:
    """What makes `after` of `before`; None: they are the same."""
    if isinstance(before, dict) and isinstance(after, dict):
        members = {
            name: different if name in before else {"to": value}
            for name, value in after.items()
            if name not in before or (different := between(before[name], value))
        }
        without = [name for name in before if name not in after]
        return {"members": members, "without": without} if members or without else None
    if before == after:
        return None
    if isinstance(before, list) and isinstance(after, list):
        return _between_lists(before, after)
    return {"to": after}


def _between_lists(before: list[Any], after: list[Any]) -> Difference:
    if len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        items = [[index, different] for index, pair in pairs if (different := between(*pair))]
        if 2 * len(items) < len(after):
            return {"items": items}
    less, kept = [], 0
    for index, item in enumerate(before):
        if kept < len(after) and item == after[kept]:
            kept += 1
        else:
            less.append(index)
    return {"less": less, "more": after[kept:]} if kept else {"to": after}


def applied(before: Any, different: Difference) -> Any:
    """What comes of a value by a difference. What is not in the difference is the very same object afterwards.

    Raises KeyError, IndexError, TypeError for a difference to something else.
    """
    if "to" in different:
        return different["to"]
    if "members" in different:
        gone = set(different["without"])
        kept = {name: value for name, value in before.items() if name not in gone}
        return kept | {name: applied(before.get(name), one) for name, one in different["members"].items()}
    if "items" in different:
        changed = list(before)
        for index, one in different["items"]:
            changed[index] = applied(before[index], one)
        return changed
    stays = [True] * len(before)
    for index in different["less"]:
        stays[index] = False
    return [*compress(before, stays), *different["more"]]
