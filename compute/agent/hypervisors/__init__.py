"""The hypervisors of this host, by name."""

from collections.abc import Callable

from compute.agent.hypervisors.base import Hypervisor
from compute.agent.paths import Paths


def _qemu(paths: Paths) -> Hypervisor:
    from compute.agent.hypervisors.qemu import Qemu

    return Qemu(paths)


def _unicorn(paths: Paths) -> Hypervisor:
    from compute.agent.hypervisors.unicorn import Unicorn

    return Unicorn(paths)


KINDS: dict[str, Callable[[Paths], Hypervisor]] = {"qemu": _qemu, "unicorn": _unicorn}


def installed(paths: Paths) -> dict[str, Hypervisor]:
    """The hypervisors that work on this host."""
    made = {name: make(paths) for name, make in KINDS.items()}
    return {name: hypervisor for name, hypervisor in made.items() if hypervisor.probe()}
