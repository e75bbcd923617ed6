"""What may be done with instances. Each function is one transaction's work, called inside it, and ends in one event."""

from compute.services.cds import eject_cd, insert_cd
from compute.services.changing import delete, is_busy, update
from compute.services.cloning import clone
from compute.services.devices import attach_nic, attach_volume, detach_nic, detach_volume
from compute.services.launching import launch, launch_many, numbered
from compute.services.passwords import reset_password
from compute.services.power import pause, reboot, resume, start, stop, suspend
from compute.services.problems import NamesTaken, NoCapacity, UnfitLaunch, WrongState
from compute.services.resizing import resize
from compute.services.snapshotting import snapshot
from compute.services.trash import discard, purge, restore
from compute.services.wishes import wish

__all__ = [
    "NamesTaken",
    "NoCapacity",
    "UnfitLaunch",
    "WrongState",
    "attach_nic",
    "attach_volume",
    "clone",
    "delete",
    "detach_nic",
    "detach_volume",
    "discard",
    "eject_cd",
    "insert_cd",
    "is_busy",
    "launch",
    "launch_many",
    "numbered",
    "pause",
    "purge",
    "reboot",
    "reset_password",
    "resize",
    "restore",
    "resume",
    "snapshot",
    "start",
    "stop",
    "suspend",
    "update",
    "wish",
]
