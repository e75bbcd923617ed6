"""Makes the devices of a running machine match its spec: plugs and unplugs disks and NICs while the guest runs.

The emulator is asked what is plugged in, so this can be repeated after whatever went wrong before.
"""

from collections.abc import Sequence
from typing import Any

from agent import faults
from agent.errors import YOU, Refused
from compute.agent import disks, metadata, nics
from compute.agent.disks import Disk, Limits
from compute.agent.hypervisors.base import Control, Hypervisor, Plugged, PluggedDisk, Slots
from compute.agent.nics import Plugs

faults.declare("plugging.before_change_of_cd", "plugging.before_unplug", "plugging.before_plug", "plugging.after_plug")


def keep_cd(slots: Slots, cds: tuple[Disk, ...]) -> None:
    """Have this CD in the drive, or none. Raises Refused, NoAnswer or OSError."""
    there, wanted = slots.look().cd, cds[0].layers[-1].name if cds else ""
    if wanted == (there or ""):
        return
    if there is None:
        raise Refused("it was started without a CD drive: stop it and start it", fix_by=YOU)
    faults.reach("plugging.before_change_of_cd")
    with disks.opened(cds) as ready:
        slots.change_cd(ready[0] if ready else None)


def keep_as_specified(
    slots: Slots, spec: dict[str, Any], wanted: Sequence[Disk], *, hypervisor: Hypervisor, plugs: Plugs
) -> None:
    """Unplug what the spec does not name, plug in what is missing, and let disks grow. `wanted`: its disks.

    Raises Refused, NoAnswer or OSError.
    """
    there = slots.look()
    wanted_nics = nics.of(spec)
    if not _differs(there, wanted, wanted_nics):
        return
    faults.reach("plugging.before_unplug")
    _unplug(slots, there, {disk.slot: disk.serial for disk in wanted}, {nic.slot: nic.mac for nic in wanted_nics})
    faults.reach("plugging.before_plug")
    there = slots.look()
    for disk in wanted:
        found = there.disks.get(disk.slot)
        if found is None or _is_another(found, disk):
            with disks.opened((disk,)) as (ready,):
                _change(slots, found, ready) if found else slots.plug_disk(ready)
    missing = tuple(nic for nic in wanted_nics if nic.slot not in there.nics)
    if missing:
        metadata.introduce(spec, plugs)
        with nics.plugged(missing, plugs, headers=hypervisor.takes_headers) as ready_nics:
            for nic in ready_nics:
                slots.plug_nic(nic, spec["seed"]["hostname"])
    faults.reach("plugging.after_plug")


def _differs(there: Plugged, wanted: Sequence[Disk], wanted_nics: Sequence[nics.Nic]) -> bool:
    if there.nics != {nic.slot: nic.mac for nic in wanted_nics} or there.disks.keys() != {disk.slot for disk in wanted}:
        return True
    return any(_is_another(there.disks[disk.slot], disk) for disk in wanted)


def _is_another(found: PluggedDisk, disk: Disk) -> bool:
    is_same = (found.serial, found.active, found.limits) == (disk.serial, disk.layers[-1].name, disk.limits)
    return not is_same or found.size_bytes < disk.size_bytes


def _unplug(slots: Slots, there: Plugged, serials: dict[int, str], macs: dict[int, str]) -> None:
    for slot, disk in there.disks.items():
        if serials.get(slot) != disk.serial:
            slots.unplug_disk(slot)
    for slot, mac in there.nics.items():
        if macs.get(slot) != mac:
            slots.unplug_nic(slot)


def _change(slots: Slots, found: PluggedDisk, disk: Disk) -> None:
    """What a disk that stays plugged in needs: new layers, more room, other limits."""
    names = [layer.name for layer in disk.layers]
    if found.active not in names:
        raise Refused(
            "a disk goes back to what it was, which its guest cannot see while it runs: stop it and start it",
            fix_by=YOU,
        )
    for layer in disk.layers[names.index(found.active) + 1 :]:
        slots.put_layer_over(disk.slot, layer)
    if found.size_bytes < disk.size_bytes:
        slots.grow_disk(disk.slot, disk.size_bytes)
    slots.limit_disk(disk.slot, disk.limits)


def limit(control: Control, wanted: Sequence[Disk]) -> None:
    """Of a machine that has just been started. Raises Refused, NoAnswer."""
    limited = [disk for disk in wanted if disk.limits != Limits()]
    if limited and control.slots:
        for disk in limited:
            control.slots.limit_disk(disk.slot, disk.limits)
