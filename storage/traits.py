"""What is known of an image beside its disks: its architecture, system, user, cloud-init, and hardware.

An OVA of ours keeps all of it in an element of its own, since OVF has words for little of it. Hosts write and read that
element; the control plane checks again what hosts report, as they read it from tenants' files.
"""

import re
from collections.abc import Mapping
from typing import Any

from storage.hardware import DISK_BUSES, FIRMWARES, MACHINES, NIC_BUSES

NAMESPACE = "urn:pileus:ovf:1"
ELEMENT = f"{{{NAMESPACE}}}Image"
UEFI_ELEMENT = f"{{{NAMESPACE}}}Uefi"  # in it: see `storage.uefi`

HARDWARE = {
    "firmware": {word for words in FIRMWARES.values() for word in words},
    "machine_type": {word for words in MACHINES.values() for word in words},
    "disk_bus": {word for words in DISK_BUSES.values() for word in words},
    "nic_bus": {word for words in NIC_BUSES.values() for word in words},
}
CHOICES = {"architecture": set(MACHINES), **HARDWARE}
NAMES = (*CHOICES, "os", "default_user", "cloud_init")
MAX_OS = 40  # characters

_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


def known(told: Mapping[str, Any]) -> dict[str, Any]:
    """Those traits of what was told that are said and can be so."""
    return {name: told[name] for name in NAMES if name in told and can_be(name, told[name])}


def can_be(name: str, value: Any) -> bool:
    if name == "cloud_init":
        return isinstance(value, bool)
    if not isinstance(value, str):
        return False
    if name == "os":
        return 0 < len(value) <= MAX_OS and value.isprintable()
    if name == "default_user":
        return _USER.fullmatch(value) is not None
    return value in CHOICES[name]
