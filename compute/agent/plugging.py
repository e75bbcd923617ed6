"""Makes the devices of a running machine match its spec: plugs and unplugs disks and NICs while the guest runs.

The emulator is asked what is plugged in, so this can be repeated after whatever went wrong before.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from agent import faults
from agent.errors import YOU, NoAnswer, Refused
from compute.agent import disks, metadata, nics
from compute.agent.disks import Disk, Limits
from compute.agent.freezing import Moment
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
    slots: Slots,
    spec: dict[str, Any],
    wanted: Sequence[Disk],
    *,
    hypervisor: Hypervisor,
    plugs: Plugs,
    hold: Callable[[], AbstractContextManager[Moment]],
    cut_off: Callable[[str], bool],
    before: dict[str, Any],
) -> set[int]:
    """Unplug what the spec does not name, plug in what is missing, let disks grow, and put new layers over disks that
    are kept as they are, all of them at one moment. `wanted`: its disks; `hold`: holds the guest's file systems still;
    `cut_off`: has what a guest waits for fail, if the storage of a layer does not answer; `before`: the facts about
    its volumes until now.

    Returns the slots of the disks that were kept while these stood still. Raises Refused, NoAnswer or OSError.
    """
    there = slots.look()
    wanted_nics = nics.of(spec)
    goes_on = [disk for disk in wanted if _goes_on(there.disks.get(disk.slot), disk, spec, before)]
    if not goes_on and not _differs(there, wanted, wanted_nics):
        return set()
    faults.reach("plugging.before_unplug")
    macs = {nic.slot: nic.mac for nic in wanted_nics}
    _unplug(slots, there, {disk.slot: disk.serial for disk in wanted}, macs, cut_off)
    faults.reach("plugging.before_plug")
    there = slots.look()
    kept = tuple(disk for disk in wanted if _is_kept(there.disks.get(disk.slot), disk))
    with disks.opened(kept) as ready_disks:
        still = _keep_all(slots, there, ready_disks, goes_on, hold)
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
    return still


def note_stillness(volumes: dict[str, Any], before: dict[str, Any], still: set[int]) -> None:
    """Say in the facts about volumes which of them were kept while the guest held its file systems still, when their
    active layer took over. `before`: the facts until now; `still`: the slots of those that have just been kept so."""
    for volume_id, fact in volumes.items():
        known = before.get(volume_id, {})
        if fact["slot"] in still or (known.get("held_still") and known.get("active") == fact["active"]):
            fact["held_still"] = True


def _is_kept(found: PluggedDisk | None, disk: Disk) -> bool:
    """Whether what is on a disk that is plugged in stays as it is, below a new layer."""
    names = [layer.name for layer in disk.layers]
    return found is not None and found.serial == disk.serial and found.active in names[:-1]


def _goes_on(found: PluggedDisk | None, disk: Disk, spec: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether what is in an image in Ceph is to be kept, and its guest writes on in the same image. Once that is in
    the facts it has happened."""
    remote = disk.layers[-1].remote
    if not (remote and remote.keeps and found and found.serial == disk.serial):
        return False
    volume = next(one for one in spec["volumes"] if one["slot"] == disk.slot)
    return bool(before.get(volume["id"], {}).get("active") != volume["chain"][-1])


def _keep_all(
    slots: Slots,
    there: Plugged,
    ready: Sequence[Disk],
    goes_on: Sequence[Disk],
    hold: Callable[[], AbstractContextManager[Moment]],
) -> set[int]:
    """Have new layers take over, and keep what is in images that go on. Returns the slots of the disks that were kept
    while the guest's file systems stood still."""
    if not ready and not goes_on:
        return set()
    kept = {disk.slot for disk in ready}
    with hold() as moment:
        for disk in ready:
            _put_layers_over(slots, there.disks[disk.slot], disk)
        for disk in goes_on:
            remote = disk.layers[-1].remote
            if remote and remote.keep():  # otherwise an earlier attempt has: who knows what stood still then
                kept.add(disk.slot)
    return kept if moment.was_still else set()


def _put_layers_over(slots: Slots, found: PluggedDisk, disk: Disk) -> None:
    names = [layer.name for layer in disk.layers]
    for layer in disk.layers[names.index(found.active) + 1 :]:
        slots.put_layer_over(disk.slot, layer)


def _differs(there: Plugged, wanted: Sequence[Disk], wanted_nics: Sequence[nics.Nic]) -> bool:
    if there.nics != {nic.slot: nic.mac for nic in wanted_nics} or there.disks.keys() != {disk.slot for disk in wanted}:
        return True
    return any(_is_another(there.disks[disk.slot], disk) for disk in wanted)


def _is_another(found: PluggedDisk, disk: Disk) -> bool:
    is_same = (found.serial, found.active, found.limits) == (disk.serial, disk.layers[-1].name, disk.limits)
    return not is_same or found.size_bytes < disk.size_bytes or _stands_on_others(found, disk)


def _stands_on_others(found: PluggedDisk, disk: Disk) -> bool:
    """Whether layers of it are open that it has not any more: its host has merged them."""
    return not found.layers.issubset(layer.name for layer in disk.layers)


def _unplug(
    slots: Slots, there: Plugged, serials: dict[int, str], macs: dict[int, str], cut_off: Callable[[str], bool]
) -> None:
    for slot, disk in there.disks.items():
        if serials.get(slot) != disk.serial:
            cut_off(disk.active)
            try:
                slots.unplug_disk(slot)
            except NoAnswer:  # its storage may have fallen silent just now
                if not cut_off(disk.active):
                    raise
                slots.unplug_disk(slot)
    for slot, mac in there.nics.items():
        if macs.get(slot) != mac:
            slots.unplug_nic(slot)


def _change(slots: Slots, found: PluggedDisk, disk: Disk) -> None:
    """What a disk that stays plugged in needs: a merged layer in place of several, more room, other limits. Its new
    layers have been put over it."""
    if found.active not in [layer.name for layer in disk.layers]:
        raise Refused(
            "a disk goes back to what it was, which its guest cannot see while it runs: stop it and start it",
            fix_by=YOU,
        )
    if _stands_on_others(found, disk):
        slots.stand_on(disk)
    if found.size_bytes < disk.size_bytes:
        slots.grow_disk(disk.slot, disk.size_bytes, disk.layers[-1])
    slots.limit_disk(disk.slot, disk.limits)


def limit(control: Control, wanted: Sequence[Disk]) -> None:
    """Of a machine that has just been started. Raises Refused, NoAnswer."""
    limited = [disk for disk in wanted if disk.limits != Limits()]
    if limited and control.slots:
        for disk in limited:
            control.slots.limit_disk(disk.slot, disk.limits)
