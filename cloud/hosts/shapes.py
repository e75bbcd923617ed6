"""What hosts tell has a shape: what is not of it is refused, so nobody who reads it later has to look again.

A shape is a type; a function that raises ValueError; {name: shape} for an object whose other members may be anything;
{str: shape} for one whose members are all alike; or [shape] for a list. A member may always be missing, or null where
its shape is `Maybe`.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from cloud.problems import Fault


class Maybe(NamedTuple):
    """Null, or of this shape."""

    shape: Any


def count(value: Any) -> None:
    """A whole number, not below 0."""
    if type(value) is not int or value < 0:
        raise ValueError("a whole number, not below 0")


def moment(value: Any) -> None:
    """A moment with its time zone."""
    if not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is None:
        raise ValueError("a moment with its time zone")


def uuid(value: Any) -> None:
    """An id."""
    UUID(value if isinstance(value, str) else "")


def network(value: Any) -> None:
    """A network such as 10.0.0.0/8."""
    ipaddress.ip_network(value if isinstance(value, str) else "")


def faults(value: Any, shape: Any, pointer: str) -> Iterator[Fault]:
    """Where a value is not of a shape."""
    if isinstance(shape, Maybe):
        yield from () if value is None else faults(value, shape.shape, pointer)
    elif isinstance(shape, Mapping | list):
        yield from _faults_within(value, shape, pointer)
    elif isinstance(shape, type):
        if not isinstance(value, shape):
            yield Fault(pointer, f"This is of the type {shape.__name__}.")
    else:
        try:
            shape(value)
        except ValueError:
            yield Fault(pointer, f"This is not what it has to be: {str(shape.__doc__).lower()}")


def _faults_within(value: Any, shape: Any, pointer: str) -> Iterator[Fault]:
    if isinstance(shape, Mapping) and isinstance(value, dict):
        known = ((name, shape.get(name, shape.get(str))) for name in value)
        inner = [(name, of) for name, of in known if of is not None]
    elif isinstance(shape, list) and isinstance(value, list):
        inner = [(index, shape[0]) for index in range(len(value))]
    else:
        yield Fault(pointer, "This is a list." if isinstance(shape, list) else "This is an object.")
        return
    for name, of in inner:
        yield from faults(value[name], of, f"{pointer}/{name}")


CAPABILITIES = {
    "hypervisors": {str: {"architectures": {str: {}}, "verbs": [str]}},
    "images": {"export": [str]},
    "jail": {"missing": {str: str}},
    "network": {"pools": [network], "missing": {str: str}},
    "volumes": {},
}
FACTS = {
    "problem": Maybe(str),
    "fix_by": Maybe(str),
    "cause": Maybe(str),
    "refused": {"ledger_generation": count},
}
