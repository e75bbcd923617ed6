"""The hypervisors of this host, by name."""

from collections.abc import Callable

import structlog

from compute.agent.hypervisors.base import Hypervisor
from compute.agent.paths import Paths

log = structlog.get_logger()


def _qemu(paths: Paths) -> Hypervisor:
    from compute.agent.hypervisors.qemu import Qemu

    return Qemu(paths)


def _unicorn(paths: Paths) -> Hypervisor:
    from compute.agent.hypervisors.unicorn import Unicorn

    return Unicorn(paths)


KINDS: dict[str, Callable[[Paths], Hypervisor]] = {"qemu": _qemu, "unicorn": _unicorn}


def installed(paths: Paths) -> dict[str, Hypervisor]:
    """The hypervisors that work on this host."""
    found = {}
    for name, make in KINDS.items():
        try:
            hypervisor = make(paths)
            if hypervisor.probe():
                found[name] = hypervisor
        except Exception:  # one that does not work here keeps the others from nothing
            log.exception("a hypervisor cannot be used", hypervisor=name)
    return found
