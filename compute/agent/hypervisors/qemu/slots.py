"""Hot-plugging in a running QEMU.

QEMU knows what is plugged in, so nothing is stored here: leftovers of a worker that was killed are removed before a
step is repeated. The names of all parts of a disk begin with the disk's name.
Source: QEMU QMP Reference Manual, sections "Block devices", "QMP device_add and device_del", "Net devices".
"""

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from string import ascii_lowercase
from typing import Any, Protocol

from agent.errors import YOU, NoAnswer, Refused
from compute.agent.disks import CD, Disk, Layer, Limits
from compute.agent.hypervisors.base import Copying, Plugged, PluggedDisk
from compute.agent.hypervisors.qemu import devices
from compute.agent.hypervisors.qemu.devices import DEVICE_OF_CD, OF_A_FILE
from compute.agent.nics import Nic
from storage.hardware import HOT_PLUG_BUSES, Hardware, name

SECONDS_TO_LET_GO = 15.0
SECONDS_TO_CLOSE = 10.0
SECONDS_TO_OPEN = 5.0  # that a guest has to let go of its CD
SECONDS_BETWEEN_REQUESTS = 3.0  # a guest that is still booting ignores the first request
OF_A_COPY = "-copy"  # suffix of an active layer's name: the layer above it during a copy
PERIPHERAL = "/machine/peripheral"
DISK, NIC = re.compile(r"vd([a-z])-device"), re.compile(r"nic(\d+)-device")


class Monitor(Protocol):
    """The part of `control.QemuControl` that is used here."""

    def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> Any: ...

    def attempt(self, command: str, arguments: Mapping[str, object] | None = None) -> bool: ...

    def hand_over(self, descriptor: int, name: str) -> None: ...

    def send(self, descriptor: int) -> None: ...


class QemuSlots:
    """`hypervisors.base.Slots` for QEMU. `hardware`: what the running machine is made of."""

    def __init__(self, monitor: Monitor, hardware: Hardware) -> None:
        self._monitor = monitor
        self._hardware = hardware

    def look(self) -> Plugged:
        there = self.devices()
        blocks = {block.get("qdev"): block for block in self._monitor.execute("query-block")}
        names = self._names()
        disks = {}
        for device in there:
            if found := DISK.fullmatch(device):
                slot = ascii_lowercase.index(found[1])
                block = blocks[devices.block_of_disk(slot, self._hardware)]["inserted"]
                disks[slot] = PluggedDisk(
                    serial=self._property(device, "serial"),
                    active=block["node-name"].removesuffix(OF_A_COPY),
                    size_bytes=block["image"]["virtual-size"],
                    limits=Limits(block["iops"] or None, block["bps"] or None),
                    layers=frozenset(_layers_in(names, f"vd{found[1]}")),
                )
        nics = {int(found[1]): self._property(device, "mac") for device in there if (found := NIC.fullmatch(device))}
        medium = blocks.get(DEVICE_OF_CD, {}).get("inserted", {}).get("node-name", "")
        return Plugged(disks, nics, cd=medium if DEVICE_OF_CD in there else None)

    def devices(self) -> list[str]:
        """The names of all hot-pluggable devices."""
        return [one["name"] for one in self._monitor.execute("qom-list", {"path": PERIPHERAL})]

    # Disks

    def plug_disk(self, disk: Disk) -> None:
        self._require_hot_plug()
        device = devices.disk(disk, self._hardware)
        self._require_port(device["bus"])
        self._drop(disk.name)
        try:
            below = None
            for layer in disk.layers:
                self._open(layer, below, read_only=not disk.writes(layer))
                below = layer
            self._monitor.execute("device_add", device)
        except NoAnswer:
            self._drop(disk.name)
            raise
        self.limit_disk(disk.slot, disk.limits)

    def unplug_disk(self, slot: int) -> None:
        self._require_hot_plug()
        self.end_copy(slot)
        self._remove(devices.device_of_disk(slot))
        self._drop(f"vd{ascii_lowercase[slot]}")

    def put_layer_over(self, slot: int, layer: Layer) -> None:
        active = self.look().disks[slot].active
        self._drop(layer.name)
        self._open(layer, None, read_only=False)
        self._monitor.execute("blockdev-snapshot", {"node": active, "overlay": layer.name})

    def stand_on(self, disk: Disk) -> None:
        nodes = self._nodes()
        there, below = _layers_in(self._names(), disk.name), None
        for layer in disk.layers:
            if layer.name not in nodes:
                self._drop(layer.name)
                self._open(layer, below, read_only=True)
            elif below:
                _, content = devices.layer(layer, 0, below=below, read_only=nodes[layer.name]["ro"])
                self._monitor.execute("blockdev-reopen", {"options": [content]})
            below = layer
        self._drop(*there.difference(layer.name for layer in disk.layers))

    def grow_disk(self, slot: int, size_bytes: int, layer: Layer | None = None) -> None:
        active = self.look().disks[slot].active
        if layer and layer.remote:
            self._connect_again(layer)
        self._monitor.execute("block_resize", {"node-name": active, "size": size_bytes})

    def _connect_again(self, layer: Layer) -> None:
        """Have what comes over a layer's connection come over another one, whose server knows that it is larger."""
        names = (f"{layer.name}{OF_A_FILE}", f"{layer.name}-2{OF_A_FILE}")
        for one in names:  # QEMU refuses it for the one that is in use; the other one is of a worker that died
            self._monitor.attempt("blockdev-del", {"node-name": one})
        there = {node["node-name"] for node in self._monitor.execute("query-named-block-nodes", {"flat": True})}
        [old], [new] = [one for one in names if one in there], [one for one in names if one not in there]
        connected, content = self._over_connection(layer, read_only=False, name=new)
        self._monitor.execute("blockdev-add", connected)
        self._monitor.execute("blockdev-reopen", {"options": [content]})
        self._monitor.attempt("blockdev-del", {"node-name": old})

    def _over_connection(self, layer: Layer, *, read_only: bool, name: str = "") -> list[dict[str, Any]]:
        """The nodes of a layer that is no file, whose connection QEMU has got."""
        assert layer.descriptor is not None
        self._monitor.hand_over(layer.descriptor, layer.name)
        return devices.remote(layer, layer.name, read_only=read_only, name=name)

    def limit_disk(self, slot: int, limits: Limits) -> None:
        if limits != self.look().disks[slot].limits:
            self._monitor.execute("block_set_io_throttle", devices.throttle(slot, limits, self._hardware))

    # The CD drive

    def change_cd(self, cd: Disk | None) -> None:
        drive = {"id": DEVICE_OF_CD}
        self._open_tray()
        self._monitor.execute("blockdev-remove-medium", drive)
        self._drop(CD)
        if cd:
            [layer] = cd.layers
            self._open(layer, None, read_only=True)
            self._monitor.execute("blockdev-insert-medium", {**drive, "node-name": layer.name})
        self._monitor.execute("blockdev-close-tray", drive)

    def _open_tray(self) -> None:
        """Ask the guest for its CD. One that does not let go of it loses it: nothing that was written is on it."""
        drive, deadline = {"id": DEVICE_OF_CD}, time.monotonic() + SECONDS_TO_OPEN
        self._monitor.execute("blockdev-open-tray", drive)
        while not self._is_open():
            if time.monotonic() > deadline:
                self._monitor.execute("blockdev-open-tray", {**drive, "force": True})
                return
            time.sleep(0.02)

    def _is_open(self) -> bool:
        blocks = self._monitor.execute("query-block")
        return any(block.get("qdev") == DEVICE_OF_CD and block.get("tray_open") for block in blocks)

    # Copies

    def begin_copy(self, slot: int, target: Layer, below: Layer | None) -> None:
        self.end_copy(slot)
        active, copy = self.look().disks[slot].active, _copy_of(slot)
        layer = replace(target, name=copy)
        try:
            self._open(layer, below, read_only=False)
            # "top": the active layer alone. What is not in it is not in the copy, which lies on the same files.
            how = {"sync": "top", "auto-dismiss": False, "filter-node-name": f"{active}{OF_A_COPY}"}
            self._monitor.execute("blockdev-backup", {"job-id": copy, "device": active, "target": copy, **how})
        except NoAnswer:
            self.end_copy(slot)
            raise

    def look_at_copy(self, slot: int) -> Copying | None:
        job = self._copy_job(slot)
        if job is None:
            return None
        is_over = job["status"] == "concluded"
        problem = str(job.get("error", "")) if is_over else ""
        return Copying(job["current-progress"], job["total-progress"], is_over and not problem, problem)

    def end_copy(self, slot: int) -> None:
        name = _copy_of(slot)
        deadline = time.monotonic() + SECONDS_TO_CLOSE
        while job := self._copy_job(slot):
            if job["status"] == "concluded":
                self._monitor.attempt("job-dismiss", {"id": name})
            elif time.monotonic() > deadline:
                raise Refused("QEMU does not end the copy of a disk")
            else:
                self._monitor.attempt("block-job-cancel", {"device": name, "force": True})
                time.sleep(0.02)
        self._drop(name)

    def _copy_job(self, slot: int) -> dict[str, Any] | None:
        return next((job for job in self._monitor.execute("query-jobs") if job["id"] == _copy_of(slot)), None)

    def _open(self, layer: Layer, below: Layer | None, *, read_only: bool) -> None:
        assert layer.descriptor is not None
        if layer.remote:
            nodes = self._over_connection(layer, read_only=read_only)
        else:
            self._monitor.send(layer.descriptor)
            taken = self._monitor.execute("add-fd", {"opaque": layer.name})
            nodes = devices.layer(layer, taken["fdset-id"], below=below, read_only=read_only)
        for node in nodes:
            self._monitor.execute("blockdev-add", node)

    def _nodes(self) -> dict[str, dict[str, Any]]:
        """All files that are open, and what is in them, by their names."""
        return {node["node-name"]: node for node in self._monitor.execute("query-named-block-nodes", {"flat": True})}

    def _names(self) -> set[str]:
        """Those of all nodes, and of files that were handed over and have none yet, or none any more."""
        files = (file for opened in self._monitor.execute("query-fdsets") for file in opened["fds"])
        return {*self._nodes(), *(file.get("opaque", "") for file in files)}

    def _drop(self, *prefixes: str) -> None:
        """Close all files whose names begin so. A device that was just removed may use them a moment longer."""
        left = [name for name in self._nodes() if _is_part_of_any(name, prefixes)]
        deadline = time.monotonic() + SECONDS_TO_CLOSE
        while left:
            closed = [name for name in left if self._monitor.attempt("blockdev-del", {"node-name": name})]
            left = [name for name in left if name not in closed]
            if not closed:
                if time.monotonic() > deadline:
                    raise Refused(f"QEMU still uses {left[0]}")
                time.sleep(0.02)
        for opened in self._monitor.execute("query-fdsets"):
            if any(_is_part_of_any(file.get("opaque", ""), prefixes) for file in opened["fds"]):
                self._monitor.attempt("remove-fd", {"fdset-id": opened["fdset-id"]})

    # NICs

    def plug_nic(self, nic: Nic, hostname: str) -> None:
        device = devices.nic(nic, self._hardware)
        self._require_port(device["bus"])
        self._drop_netdev(nic.slot)
        name = devices.netdev_of_nic(nic.slot)
        if nic.descriptor is not None:
            self._monitor.hand_over(nic.descriptor, name)
        try:
            self._monitor.execute("netdev_add", devices.netdev(nic, hostname, file=name))
            self._monitor.execute("device_add", device)
        except NoAnswer:
            self._drop_netdev(nic.slot)
            raise

    def unplug_nic(self, slot: int) -> None:
        self._remove(devices.device_of_nic(slot))
        self._drop_netdev(slot)

    def _drop_netdev(self, slot: int) -> None:
        name = devices.netdev_of_nic(slot)
        self._monitor.attempt("netdev_del", {"id": name})
        self._monitor.attempt("closefd", {"fdname": name})

    # Devices

    def _require_hot_plug(self) -> None:
        bus = self._hardware.disk_bus
        if bus not in HOT_PLUG_BUSES:
            words = f"QEMU plugs no disk into {name(bus)}, and none out, while a machine runs: stop it first"
            raise Refused(words, fix_by=YOU)

    def _require_port(self, bus: str) -> None:
        if bus.startswith("port") and bus not in self.devices():
            raise Refused(
                "it was started by an older release, without this slot: stop it and start it again", fix_by=YOU
            )

    def _remove(self, device: str) -> None:
        """Ask the guest to release a device, again and again, until it has."""
        began = time.monotonic()
        next_request = began
        while device in self.devices():
            if time.monotonic() >= next_request:
                self._monitor.attempt("device_del", {"id": device})
                next_request += SECONDS_BETWEEN_REQUESTS
            if time.monotonic() > began + SECONDS_TO_LET_GO:
                raise Refused(
                    "its guest does not let go of it: is it still starting, or is it in use there?", fix_by=YOU
                )
            time.sleep(0.02)

    def _property(self, device: str, name: str) -> str:
        return str(self._monitor.execute("qom-get", {"path": f"{PERIPHERAL}/{device}", "property": name}))


def _copy_of(slot: int) -> str:
    """The name of a disk's copy, and of the job that makes it."""
    return f"copy-vd{ascii_lowercase[slot]}"


def _layers_in(nodes: Iterable[str], disk: str) -> set[str]:
    """The names of a disk's layers."""
    ends = (OF_A_FILE, OF_A_COPY)
    return {name for name in nodes if _is_part_of_any(name, (disk,)) and not name.endswith(ends)}


def _is_part_of_any(name: str, wholes: Iterable[str]) -> bool:
    return any(name == whole or name.startswith(f"{whole}-") for whole in wholes)
