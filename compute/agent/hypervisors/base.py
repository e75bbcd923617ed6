"""What a hypervisor is to this host: it can start a machine, and a started machine obeys few verbs on a control socket.

`machine.py` knows nothing else, so it cannot tell one hypervisor from another. The truth about a machine is kept by its
own emulator: a guest that switched itself off leaves an emulator that says `off` until it is told to quit, so nothing
is lost when nobody was listening.
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
    """What an emulator says of its machine. OFF: the guest has switched itself off, the emulator is still there."""

    RUNNING = "running"
    PAUSED = "paused"
    OFF = "off"


@dataclass(frozen=True)
class Status:
    """`problem`: why a machine is paused when nobody paused it; `curable`: resuming may help once that has changed."""

    power: Power
    problem: str = ""
    curable: bool = False


@dataclass(frozen=True)
class Counters:
    """What a machine's devices have done since its emulator started; NICs, since they were plugged. None: it is not
    counted. Emulators tell of disks, the host's network process of NICs."""

    guest_memory_mib: float | None = None  # that the guest says it uses
    disk_read_bytes: int | None = None
    disk_write_bytes: int | None = None
    disk_reads: int | None = None
    disk_writes: int | None = None
    network_received_bytes: int | None = None
    network_sent_bytes: int | None = None
    network_received_packets: int | None = None
    network_sent_packets: int | None = None
    network_dropped_packets: int | None = None


@dataclass(frozen=True)
class Boot:
    """Everything that a start needs: the order's spec, the machine's home, image files by role, its confinement; its
    disks and NICs as ready parts, none, one or many, with open files and taps.

    `saved`: what `Control.save` wrote, to go on from instead of booting; the guest stands still until `resume`. A clone
    goes on as somebody else: with another seed and other addresses, which its guest is told.
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
        """What the emulator inherits."""
        files = [layer.descriptor for disk in self.disks for layer in disk.layers]
        taps = [nic.descriptor for nic in self.nics]
        return tuple(descriptor for descriptor in (*files, *taps) if descriptor is not None)


@dataclass(frozen=True)
class PluggedDisk:
    """A disk in a running machine. `active`: the name of the layer that is written to."""

    serial: str
    active: str
    size_bytes: int
    limits: Limits


@dataclass(frozen=True)
class Copying:
    """How far the copy of a disk is, in bytes. `problem`: why it has ended too early."""

    done: int
    of: int
    is_done: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Plugged:
    """What is plugged into a running machine, by slot; NICs by their MAC address."""

    disks: dict[int, PluggedDisk]
    nics: dict[int, str]


class Slots(Protocol):
    """The slots of a running machine. Doing anything again that was begun and not finished is safe.

    Each may raise NoAnswer, and Refused with the reason.
    """

    def look(self) -> Plugged: ...

    def plug_disk(self, disk: Disk) -> None:
        """Its layers are open, and stay open here."""

    def unplug_disk(self, slot: int) -> None:
        """Ends when the guest has let go of it, and nothing of it is open any more."""

    def put_layer_over(self, slot: int, layer: Layer) -> None:
        """From one moment to the next, what the guest writes goes into this empty layer, which is open."""

    def grow_disk(self, slot: int, size_bytes: int) -> None: ...

    def limit_disk(self, slot: int, limits: Limits) -> None: ...

    def begin_copy(self, slot: int, target: Layer, below: Layer | None) -> None:
        """Begin to copy what is in a disk's active layer now into an empty one, which is open, while the guest goes on.
        `below`: what the active layer lies on, and so does the copy."""

    def look_at_copy(self, slot: int) -> Copying | None:
        """None: there is none."""

    def end_copy(self, slot: int) -> None:
        """Let go of the copy, done or not. Without one nothing happens."""

    def plug_nic(self, nic: Nic, hostname: str) -> None:
        """Its tap is open."""

    def unplug_nic(self, slot: int) -> None: ...


class Control(Protocol):
    """The verbs of a running machine. Each may raise NoAnswer."""

    @property
    def slots(self) -> Slots | None:
        """None: this hypervisor plugs nothing while a machine runs."""

    def status(self) -> Status: ...

    def press_power_button(self) -> None:
        """Ask the guest to switch itself off."""

    def reset(self) -> None:
        """Start the guest again from its firmware, whatever it was doing, also when it is off."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def save(self, directory: Path, uid: int | None) -> None:
        """Write memory and devices of a paused machine into a folder of ours; `uid`: the emulator's user, if it has its
        own. It is for the caller to make them durable, which need not be waited for by the guest. Its disks are flushed
        and not in it. Afterwards there are regular files only, whose content is the emulator's word."""

    def quit(self) -> None:
        """End the emulator: what the guest wrote to its disks is kept."""


class Hypervisor(Protocol):
    """One kind of emulator on this host."""

    name: str
    takes_headers: bool
    """Whether it wants frames of taps with virtio-net headers before them."""

    def probe(self) -> dict[str, Any] | None:
        """{"version", "architectures": {name: {"accelerator", "kvm"}}, "verbs": ["pause", …]}; None when it does not
        work on this host. The verb "plug": disks and NICs come and go while a machine runs; "copy": its disk can be
        copied meanwhile."""

    def probe_accelerators(self) -> bool:
        """Look, once, for what makes machines faster, which may take seconds; whether `probe` says more than before."""

    def overhead_mib(self, spec: dict[str, Any]) -> int:
        """Memory that the emulator may need beside the guest's."""

    def groups(self) -> tuple[int, ...]:
        """Groups that an emulator's own user has to be in, such as that of /dev/kvm."""

    def accelerator(self, spec: dict[str, Any]) -> str:
        """What a machine started now would run on: `kvm`, `tcg`, …"""

    def check(self, spec: dict[str, Any], files: Mapping[str, Path]) -> None:
        """Raises Refused for a machine that it cannot run, with its image's files by role."""

    def start(self, boot: Boot) -> Process:
        """Start the emulator, detached and confined, with the guest running. Raises Refused."""

    def find(self, home: Home) -> Process | None:
        """The machine's live emulator, whoever started it."""

    def control(self, home: Home) -> AbstractContextManager[Control]:
        """A connection to a live machine. Raises NoAnswer."""

    def events(self, home: Home) -> socket.socket | None:
        """A non-blocking socket that becomes readable when the machine's status may have changed. Raises NoAnswer."""

    def counters(self, home: Home) -> Counters:
        """Asked of every machine every few seconds: it costs next to nothing, and waits for nobody. Raises NoAnswer."""
