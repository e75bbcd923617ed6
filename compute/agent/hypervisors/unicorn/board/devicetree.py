# SPDX-License-Identifier: GPL-2.0-or-later
"""Where everything is, and the devicetree that tells the guest: a pure function.

The map is that of QEMU's `virt` board where it has the same device. Sources: Devicetree Specification v0.4; Linux's
devicetree bindings for what each `compatible` means.
"""

from collections.abc import Mapping
from typing import NamedTuple

from . import cpu, memory, plic, rtc, uart, virtio, vmgenid
from .fdt import Node, Value, cells64, flatten

RTC_BASE, GENERATION_BASE, PLIC_BASE, UART_BASE, VIRTIO_BASE = (
    0x10_1000,
    0x10_2000,
    0xC00_0000,
    0x1000_0000,
    0x1000_1000,
)
UART_SOURCE, RTC_SOURCE, GENERATION_SOURCE, FIRST_VIRTIO_SOURCE = 10, 11, 12, 16
SLOTS = plic.SOURCES - FIRST_VIRTIO_SOURCE  # for virtio devices
HART_INTERRUPTS, PLATFORM_INTERRUPTS = 1, 2  # phandles
SUPERVISOR_EXTERNAL = 9
ISA = "rv64imafdc"
# Svvptc: an engine without entries for what is not mapped need not be told of new mappings. It saves a flush at every
# page fault.
EXTENSIONS = ["i", "m", "a", "f", "d", "c", "zicsr", "zifencei", "zicntr", "svvptc"]


class Contents(NamedTuple):
    """What differs between computers. `initrd`: first and last address + 1."""

    memory_size: int
    slots: int
    command_line: str
    seed: bytes
    initrd: tuple[int, int] | None = None


def devicetree(contents: Contents) -> bytes:
    """The tree as a blob."""
    chosen = Node(
        "chosen",
        {
            "bootargs": contents.command_line,
            "stdout-path": f"/soc/serial@{UART_BASE:x}",
            "rng-seed": contents.seed,
        },
    )
    if contents.initrd:
        start, end = contents.initrd
        chosen.properties |= {"linux,initrd-start": cells64(start), "linux,initrd-end": cells64(end)}
    ram = Node(f"memory@{memory.BASE:x}", {"device_type": "memory", "reg": cells64(memory.BASE, contents.memory_size)})
    properties: dict[str, Value] = {
        "#address-cells": 2,
        "#size-cells": 2,
        "compatible": "riscv-virtio",
        "model": "pileus,unicorn",
    }
    return flatten(Node("", properties, chosen, ram, _cpus(), _soc(contents.slots)))


def _cpus() -> Node:
    interrupts = Node(
        "interrupt-controller",
        {
            "#interrupt-cells": 1,
            "interrupt-controller": True,
            "compatible": "riscv,cpu-intc",
            "phandle": HART_INTERRUPTS,
        },
    )
    hart = Node(
        "cpu@0",
        {
            "device_type": "cpu",
            "reg": 0,
            "status": "okay",
            "compatible": "riscv",
            "mmu-type": "riscv,sv39",
            # Both ways of saying it: kernels built without the fallback for the old one would run without an FPU.
            "riscv,isa": ISA,
            "riscv,isa-base": "rv64i",
            "riscv,isa-extensions": EXTENSIONS,
        },
        interrupts,
    )
    return Node("cpus", {"#address-cells": 1, "#size-cells": 0, "timebase-frequency": cpu.TIMEBASE}, hart)


def _soc(slots: int) -> Node:
    platform: dict[str, Value] = {
        "#interrupt-cells": 1,
        "#address-cells": 0,
        "interrupt-controller": True,
        "interrupts-extended": [HART_INTERRUPTS, SUPERVISOR_EXTERNAL],
        "phandle": PLATFORM_INTERRUPTS,
        "riscv,ndev": plic.SOURCES - 1,
    }
    devices = [
        _device("plic", PLIC_BASE, plic.SIZE, ["sifive,plic-1.0.0", "riscv,plic0"], platform),
        _device("serial", UART_BASE, uart.SIZE, ["ns16550a"], {"clock-frequency": 3_686_400, **_source(UART_SOURCE)}),
        _device("rtc", RTC_BASE, rtc.SIZE, ["google,goldfish-rtc"], _source(RTC_SOURCE)),
        _device("vmgenid", GENERATION_BASE, vmgenid.SIZE, ["microsoft,vmgenid"], _source(GENERATION_SOURCE)),
    ]
    for slot in range(slots):
        source = _source(FIRST_VIRTIO_SOURCE + slot)
        devices.append(_device("virtio_mmio", virtio_address(slot), virtio.SIZE, ["virtio,mmio"], source))
    properties: dict[str, Value] = {"#address-cells": 2, "#size-cells": 2, "compatible": "simple-bus", "ranges": True}
    return Node("soc", properties, *devices)


def virtio_address(slot: int) -> int:
    return VIRTIO_BASE + slot * virtio.SIZE


def _source(number: int) -> dict[str, Value]:
    return {"interrupts": number, "interrupt-parent": PLATFORM_INTERRUPTS}


def _device(name: str, base: int, size: int, compatible: list[str], properties: Mapping[str, Value]) -> Node:
    return Node(f"{name}@{base:x}", {"compatible": compatible, "reg": cells64(base, size), **properties})
