"""The shapes of what hosts tell. Anything else is refused as it comes in, so its readers do not have to check it again.

A shape is one of these:

- a type;
- a function that raises ValueError, whose docstring says what is right;
- {name: shape}: an object. Members that are not named may be anything, and each may be missing;
- Whole({name: shape}): an object that has all of these;
- {str: shape}: an object whose members all have the same shape;
- [shape]: a list;
- Maybe(shape): null is right, too.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from cloud.problems import Fault

MAX_ADDRESS = 260  # characters: a name has 253


class Maybe(NamedTuple):
    """Null, or of this shape."""

    shape: Any


class Whole(NamedTuple):
    """An object that lacks none of these members."""

    shape: Mapping[str, Any]


def count(value: Any) -> None:
    """A whole number, not below 0."""
    if type(value) is not int or value < 0:
        raise ValueError


def moment(value: Any) -> None:
    """A moment with its time zone."""
    if not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is None:
        raise ValueError


def uuid(value: Any) -> None:
    """An id."""
    UUID(value if isinstance(value, str) else "")


def network(value: Any) -> None:
    """A network such as 10.0.0.0/8."""
    ipaddress.ip_network(value if isinstance(value, str) else "")


def pools(value: Any) -> None:
    """Shared folders, Ceph pools and what storage hosts serve by their ids, each with its name and its GiB."""
    if not isinstance(value, dict):
        raise ValueError
    for pool, told in value.items():
        uuid(pool)
        if not isinstance(told, dict) or not isinstance(told.get("name"), str):
            raise ValueError
        if told.get("kind", "folder") not in ("folder", "ceph", "nbd"):
            raise ValueError
        count(told.get("total_gib"))


def faults(value: Any, shape: Any, pointer: str) -> Iterator[Fault]:
    """Where a value is not of a shape."""
    if isinstance(shape, Maybe):
        yield from () if value is None else faults(value, shape.shape, pointer)
    elif isinstance(shape, Whole):
        missing = [name for name in shape.shape if isinstance(value, dict) and name not in value]
        yield from (Fault(f"{pointer}/{name}", "It is missing.") for name in missing)
        yield from faults(value, shape.shape, pointer)
    elif isinstance(shape, Mapping | list):
        yield from _faults_within(value, shape, pointer)
    elif isinstance(shape, type):
        if not isinstance(value, shape):
            yield Fault(pointer, f"It has to be of the type {shape.__name__}.")
    else:
        try:
            shape(value)
        except ValueError:
            yield Fault(pointer, f"It has to be {str(shape.__doc__).lower()}")


def _faults_within(value: Any, shape: Any, pointer: str) -> Iterator[Fault]:
    if isinstance(shape, Mapping) and isinstance(value, dict):
        known = ((name, shape.get(name, shape.get(str))) for name in value)
        inner = [(name, of) for name, of in known if of is not None]
    elif isinstance(shape, list) and isinstance(value, list):
        inner = [(index, shape[0]) for index in range(len(value))]
    else:
        yield Fault(pointer, f"It has to be {'a list' if isinstance(shape, list) else 'an object'}.")
        return
    for name, of in inner:
        yield from faults(value[name], of, f"{pointer}/{name}")


def address(value: Any) -> None:
    """A host and a port, such as 10.0.0.7:8490."""
    host, _, port = value.rpartition(":") if isinstance(value, str) and len(value) <= MAX_ADDRESS else ("", "", "")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ValueError


CAPABILITIES = {
    "hypervisors": {str: {"architectures": {str: {}}, "verbs": [str]}},
    "image_cache": {
        "held": {str: count},
        "serves": Whole({"address": address, "fingerprint": str, "downloads": count}),
        "served": {str: count},
    },
    "images": {"export": [str]},
    "jail": {"missing": {str: str}},
    "network": {"pools": [network], "missing": {str: str}},
    "volumes": {},
    "pools": pools,
    "fence": uuid,
}
FACTS = {
    "problem": Maybe(str),
    "fix_by": Maybe(str),
    "cause": Maybe(str),
    "refused": {"ledger_generation": count},
}
