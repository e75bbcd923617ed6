"""The apps that have something on hosts: found by their names, as the ground floor imports none of them."""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

APPS = ("storage", "network", "compute")


def modules(name: str) -> Iterator[ModuleType]:
    """The module `<app>.agent.<name>` of every app that has one."""
    for app in APPS:
        path = f"{app}.agent.{name}"
        if find_spec(path):
            yield import_module(path)
