"""The hypervisors of this host, by name."""

from collections.abc import Callable

import structlog

from agent.jail import Jail
from agent.paths import Paths
from compute.agent.hypervisors.base import Hypervisor

log = structlog.get_logger()


def _qemu(paths: Paths, jail: Jail) -> Hypervisor:
    from compute.agent.hypervisors.qemu import Qemu

    return Qemu(paths, jail)


def _unicorn(paths: Paths, jail: Jail) -> Hypervisor:
    from compute.agent.hypervisors.unicorn import Unicorn

    return Unicorn(paths, jail)


KINDS: dict[str, Callable[[Paths, Jail], Hypervisor]] = {"qemu": _qemu, "unicorn": _unicorn}


def installed(paths: Paths, jail: Jail) -> dict[str, Hypervisor]:
    """The hypervisors that work on this host, tried in the jail that their machines will be in."""
    found = {}
    for name, make in KINDS.items():
        try:
            hypervisor = make(paths, jail)
            if hypervisor.probe():
                found[name] = hypervisor
        except Exception:  # a hypervisor that fails here must not take the others with it
            log.exception("a hypervisor cannot be used", hypervisor=name)
    return found
