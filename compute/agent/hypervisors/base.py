"""The interface of hypervisors: one starts machines, and a started machine obeys a few verbs on a control socket.

`machine.py` uses nothing else, so all hypervisors look the same to it. A machine's own emulator keeps its state: when
a guest switches itself off, the emulator goes on running and says `off` until it is told to quit. So nothing is lost
when no worker was listening.
"""

import socket
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from agent.jail import Confinement
from agent.processes import Process
from compute.agent.disks import Disk, Layer, Limits
from compute.agent.homes import Home
from compute.agent.nics import Nic


class Power(StrEnum):
    """The state of a machine, from its emulator. OFF: the guest has switched itself off; the emulator still runs."""

    RUNNING = "running"
    PAUSED = "paused"
    OFF = "off"


@dataclass(frozen=True)
class Status:
    """`problem`: why a machine is paused that nobody paused. `curable`: resume may help when the cause is gone."""

    power: Power
    problem: str = ""
    curable: bool = False


@dataclass(frozen=True)
class Counters:
    """Counters of a machine's devices: of disks since its emulator started, of NICs since they were plugged in. None:
    not counted. Emulators count disks, the host's network process counts NICs."""

    guest_memory_mib: float | None = None  # as reported by the guest
    disk_read_bytes: int | None = None
    disk_write_bytes: int | None = None
    disk_reads: int | None = None
    disk_writes: int | None = None
    network_received_bytes: int | None = None
    network_sent_bytes: int | None = None
    network_received_packets: int | None = None
    network_sent_packets: int | None = None
    network_dropped_packets: int | None = None
    disks: Mapping[int, Mapping[str, int]] = field(default_factory=dict)  # of each, by its slot, named as above


@dataclass(frozen=True)
class Boot:
    """All that a start needs: the order's spec, the machine's home, image files by role, its confinement; and any
    number of disks and NICs as ready parts, with open files and taps.

    `saved`: the folder that `Control.save` wrote. The machine starts from it instead of booting, paused until `resume`.
    A clone gets a new identity: another seed and other addresses, and its guest is told.
    """

    spec: dict[str, Any]
    home: Home
    files: dict[str, Path] = field(default_factory=dict)
    confinement: Confinement = field(default_factory=Confinement)
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    saved: Path | None = None
    is_clone: bool = False

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The file descriptors that the emulator inherits."""
        files = [layer.descriptor for disk in self.disks for layer in disk.layers]
        taps = [nic.descriptor for nic in self.nics]
        return tuple(descriptor for descriptor in (*files, *taps) if descriptor is not None)


@dataclass(frozen=True)
class PluggedDisk:
    """A disk in a running machine. `active`: the name of the layer that is written to; `layers`: those of all that are
    open for it (of a machine's own disk without the image's)."""

    serial: str
    active: str
    size_bytes: int
    limits: Limits
    layers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Copying:
    """Progress of a disk's copy, in bytes. `problem`: why the copy failed."""

    done: int
    of: int
    is_done: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Plugged:
    """The devices of a running machine: disks by slot, NICs by MAC address. `cd`: the name of the layer that is in its
    CD drive, "" if nothing is; None: it has no drive."""

    disks: dict[int, PluggedDisk]
    nics: dict[int, str]
    cd: str | None = None


class Slots(Protocol):
    """Hot-plugging for a running machine. Every method may be repeated after it was interrupted.

    Each may raise NoAnswer, and Refused with the reason.
    """

    def look(self) -> Plugged: ...

    def plug_disk(self, disk: Disk) -> None:
        """Plug a disk in. The caller opened its layers, and closes them."""

    def unplug_disk(self, slot: int) -> None:
        """Unplug a disk. Returns when the guest has released it and all its files are closed."""

    def put_layer_over(self, slot: int, layer: Layer) -> None:
        """Atomically switch the guest's writes to this empty layer, an open file."""

    def stand_on(self, disk: Disk) -> None:
        """Have a disk whose active layer stays stand on these layers, and close all others of it: they have the same.
        The caller opened them."""

    def grow_disk(self, slot: int, size_bytes: int, layer: Layer | None = None) -> None:
        """`layer`: the active one, open."""

    def limit_disk(self, slot: int, limits: Limits) -> None: ...

    def begin_copy(self, slot: int, target: Layer, below: Layer | None) -> None:
        """Begin to copy the active layer, as it is now, into an empty layer (an open file) while the guest runs.
        `below`: the backing file of the active layer; the copy has the same."""

    def look_at_copy(self, slot: int) -> Copying | None:
        """The progress of the copy, or None if there is no copy."""

    def end_copy(self, slot: int) -> None:
        """End the copy, finished or not. Without a copy this does nothing."""

    def change_cd(self, cd: Disk | None) -> None:
        """Put a CD into the drive, in place of what is in there; None: leave it empty. The caller opened its layer."""

    def plug_nic(self, nic: Nic, hostname: str) -> None:
        """Plug a NIC in. The caller opened its tap."""

    def unplug_nic(self, slot: int) -> None: ...


class Control(Protocol):
    """The verbs of a running machine. Each may raise NoAnswer."""

    @property
    def slots(self) -> Slots | None:
        """None if this hypervisor cannot hot-plug."""

    def status(self) -> Status: ...

    def guest_listens(self) -> bool:
        """Whether a program in the guest has opened the channel to its agent (`Home.agent_socket`)."""

    def press_power_button(self) -> None:
        """Ask the guest to switch itself off."""

    def reset(self) -> None:
        """Reset: start again from the firmware, in any state, also when the machine is off."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def save(self, directory: Path, uid: int | None) -> None:
        """Write memory and devices of a paused machine into a folder of ours; `uid`: the emulator's user, if it has its
        own. It is for the caller to make them durable, which need not be waited for by the guest. Its disks are flushed
        and not in it. Afterwards there are regular files only, whose content is the emulator's word."""

    def quit(self) -> None:
        """End the emulator. Everything that the guest wrote to its disks is kept."""


class Hypervisor(Protocol):
    """One kind of emulator on this host."""

    name: str
    takes_headers: bool
    """Whether taps must put a virtio-net header before each frame."""

    def probe(self) -> dict[str, Any] | None:
        """{"version", "architectures": {name: {"accelerator", "kvm"}}, "verbs": ["pause", …]}; None when it does not
        work on this host. The verb "plug": disks and NICs come and go while a machine runs; "copy": its disk can be
        copied meanwhile; "layers": what its disks stand on is replaced meanwhile; "cd": it can have a CD drive, whose
        CDs are changed meanwhile."""

    def probe_accelerators(self) -> bool:
        """Test accelerators, once; this may take seconds. Returns whether `probe` now says more than before."""

    def overhead_mib(self, spec: dict[str, Any]) -> int:
        """MiB of memory that the emulator may need besides the guest's."""

    def groups(self) -> tuple[int, ...]:
        """The groups that an emulator's user must be in, such as the group of /dev/kvm."""

    def accelerator(self, spec: dict[str, Any]) -> str:
        """The accelerator that a machine started now would use: `kvm`, `tcg`, …"""

    def check(self, spec: dict[str, Any], files: Mapping[str, Path]) -> None:
        """Raises Refused for a machine that it cannot run, with its image's files by role."""

    def start(self, boot: Boot) -> Process:
        """Start the emulator, detached and confined, with the guest running. Raises Refused."""

    def find(self, home: Home) -> Process | None:
        """The machine's running emulator, whichever process started it; None if there is none."""

    def control(self, home: Home) -> AbstractContextManager[Control]:
        """A connection to a live machine. Raises NoAnswer."""

    def events(self, home: Home) -> socket.socket | None:
        """A non-blocking socket that becomes readable when the machine's status may have changed. Raises NoAnswer."""

    def counters(self, home: Home) -> Counters:
        """Called for every machine every few seconds, so it must be cheap and never wait. Raises NoAnswer."""
