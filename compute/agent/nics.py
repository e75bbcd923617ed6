"""A machine's NICs: what its emulator is given, and what its guest is told."""

import hashlib
import uuid
from dataclasses import dataclass
from typing import Any

# Of the only guest in an emulator's own network, by QEMU's user networking and by the embedded emulator's.
OWN_NETWORK_ADDRESS = "10.0.2.15/24"


@dataclass(frozen=True)
class Nic:
    """`address`: with the prefix of its network; None: the guest asks by DHCP."""

    mac: str
    address: str | None = None


def of(spec: dict[str, Any]) -> tuple[Nic, ...]:
    """One, in the emulator's own network."""
    return (Nic(mac_address(spec["id"]), OWN_NETWORK_ADDRESS),)


def mac_address(machine_id: str) -> str:
    """A stable, locally administered address."""
    digest = hashlib.sha256(uuid.UUID(machine_id).bytes).digest()
    return ":".join(f"{octet:02x}" for octet in (0x52, 0x54, 0x00, *digest[:3]))
