# SPDX-License-Identifier: GPL-2.0-or-later
"""A computer at rest, in a directory: `state.json`, and `memory` with holes where it is zero.

The hart's state is a piece of Unicorn's own memory, so a snapshot goes on only under the version that it was made with.
Disks are not in it: they are flushed, and whoever keeps the snapshot keeps them. Many computers may go on from one
snapshot at once: they share its memory until they change it.
"""

import json
import os
from pathlib import Path
from typing import Any

from .computer import Computer
from .library import VERSION

FORMAT = 1
STATE, MEMORY = "state.json", "memory"


class Unusable(Exception):
    """A snapshot that this program cannot go on from; says why."""


def save(computer: Computer, directory: Path) -> dict[str, Any]:
    """Write a snapshot of a computer that is not running, for the caller to make durable; what it took.

    Raises OSError.
    """
    for block in computer.blocks:
        block.disk.flush()
    directory.mkdir(mode=0o700, exist_ok=True)
    written = computer.ram.save(directory / MEMORY)
    computer.engine.save()
    state = {
        "format": FORMAT,
        "unicorn": VERSION,
        "architecture": os.uname().machine,
        "memory_mib": computer.ram.size >> 20,
        "hart": {
            "context": computer.engine.content().hex(),
            "now": computer.hart.now(),
            "deadline": computer.hart.deadline,
        },
        "generation": computer.generation.identity.hex(),
        "plic": computer.plic.save(),
        "uart": computer.uart.save(),
        "virtio": [{"kind": device.NAME, **device.save()} for device in computer.virtio],
    }
    new = directory / f"{STATE}.new"
    new.write_text(json.dumps(state))
    new.rename(directory / STATE)
    return {"memory_bytes": written, "memory_mib": state["memory_mib"], "unicorn": VERSION}


def read(directory: Path) -> dict[str, Any]:
    """The state in a snapshot. Raises Unusable."""
    try:
        state: dict[str, Any] = json.loads((directory / STATE).read_text())
    except (OSError, ValueError) as error:
        raise Unusable(f"no snapshot can be read in {directory}: {error}") from error
    made = state.get("unicorn"), state.get("architecture"), state.get("format")
    here = VERSION, os.uname().machine, FORMAT
    if made != here:
        words = "the snapshot was made by Unicorn {} on {} (format {}), and this is Unicorn {} on {} (format {})"
        raise Unusable(words.format(*made, *here))
    return state


def restore(computer: Computer, state: dict[str, Any]) -> None:
    """Let a computer that was built over the snapshot's memory, with the same devices, go on. Raises Unusable."""
    kinds = [device.NAME for device in computer.virtio]
    saved = [device["kind"] for device in state["virtio"]]
    if kinds != saved:
        raise Unusable(f"the snapshot has the devices {', '.join(saved)}, and the machine {', '.join(kinds)}")
    try:
        computer.plic.restore(state["plic"])
        computer.uart.restore(state["uart"])
        for device, content in zip(computer.virtio, state["virtio"], strict=True):
            device.restore(content)
        computer.engine.set_content(bytes.fromhex(state["hart"]["context"]))
        computer.hart.go_on(now=int(state["hart"]["now"]), deadline=state["hart"]["deadline"])
    except (KeyError, TypeError, ValueError) as error:
        raise Unusable(f"the snapshot is damaged: {error}") from error
