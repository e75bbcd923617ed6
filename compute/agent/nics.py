"""A machine's NICs: taps for its emulator, configuration for its guest."""

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from agent.errors import NoAnswer, Refused

# Of the only guest in an emulator's own network, by QEMU's user networking and by the embedded emulator's.
OWN_NETWORK_ADDRESS = "10.0.2.15/24"


class Plugs(Protocol):
    """What gives access to networks of this host."""

    def plug(self, port: str, headers: bool) -> int:
        """The descriptor of a port's tap; the caller closes it. Raises Refused, NoAnswer."""

    def introduce(self, port: str, pages: dict[str, str]) -> None:
        """Set the metadata that the guest of a port may read. Raises Refused, NoAnswer."""

    def unplug(self, port: str) -> None:
        """Remove a port's tap and its guest's metadata. Raises Refused, NoAnswer."""

    def counters(self) -> dict[str, Any]:
        """{"ports": {port id: counts}} of all that are plugged. Raises Refused, NoAnswer."""


@dataclass(frozen=True)
class Nic:
    """`slot`: its place in the machine. `address`: with the prefix of its network; None: the guest asks by DHCP.
    `port`: what it is plugged into, in a network of this host; None: the emulator's own. `descriptor`: the port's tap,
    while it is plugged in."""

    mac: str
    address: str | None = None
    slot: int = 0
    port: str | None = None
    mtu: int = 1500
    asks_by_dhcp6: bool = True
    descriptor: int | None = None


def of(spec: dict[str, Any]) -> tuple[Nic, ...]:
    """The NICs of the spec. A machine without any gets its emulator's isolated network."""
    if not spec["nics"]:
        return (Nic(mac_address(spec["id"]), OWN_NETWORK_ADDRESS),)
    return tuple(
        Nic(
            mac=nic["mac"],
            slot=int(nic.get("slot", index)),  # older control planes number them in their order
            port=nic["port"],
            mtu=int(nic["mtu"]),
            asks_by_dhcp6=nic.get("dhcp6", any(":" in address for address in nic["addresses"])),
        )
        for index, nic in enumerate(spec["nics"])
    )


def awaited(spec: dict[str, Any]) -> dict[str, int]:
    """The networks of this host that have to be made before its NICs are plugged in, and of which generation, by id.
    Older control planes name none: they order a machine when its networks are made."""
    return {network["id"]: int(network["generation"]) for nic in spec["nics"] if (network := nic.get("awaits"))}


@contextmanager
def plugged(nics: tuple[Nic, ...], plugs: Plugs, *, headers: bool) -> Iterator[tuple[Nic, ...]]:
    """The same NICs with the taps of their ports, for an emulator to inherit. Raises Refused, NoAnswer."""
    with ExitStack() as stack:
        ready = []
        for nic in nics:
            if nic.port:
                descriptor = plugs.plug(nic.port, headers)
                stack.callback(os.close, descriptor)
                nic = replace(nic, descriptor=descriptor)  # noqa: PLW2901
            ready.append(nic)
        yield tuple(ready)


def unplug(spec: dict[str, Any], plugs: Plugs) -> None:
    """Remove the ports of a machine that is gone. What fails now is repeated when its network is applied."""
    for nic in spec.get("nics", ()):  # an order to remove may carry no spec
        with suppress(Refused, NoAnswer):
            plugs.unplug(nic["port"])


def mac_address(machine_id: str) -> str:
    """A stable, locally administered address."""
    digest = hashlib.sha256(uuid.UUID(machine_id).bytes).digest()
    return ":".join(f"{octet:02x}" for octet in (0x52, 0x54, 0x00, *digest[:3]))
