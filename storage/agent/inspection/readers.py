"""The readers of single disks, by format. They are pure Python and follow nothing: any process may use them."""

from collections.abc import Callable

from storage.agent.inspection import iso, qcow2, raw, vdi, vhd, vhdx, vmdk
from storage.agent.inspection.common import Examined, Limits, Window

READERS: dict[str, Callable[[Window, Limits], Examined]] = {
    "qcow2": qcow2.examine,
    "raw": raw.examine,
    "vdi": vdi.examine,
    "vmdk": vmdk.examine,
    "vhd": vhd.examine,
    "vhdx": vhdx.examine,
    "iso": iso.examine,
}
