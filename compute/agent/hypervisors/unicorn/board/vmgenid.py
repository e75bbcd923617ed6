# SPDX-License-Identifier: GPL-2.0-or-later
"""The generation of this computer: sixteen bytes that change when it goes on from a snapshot.

A guest's kernel then mixes them into its random numbers before anything else, so that clones do not share their
secrets. Source: "Virtual Machine Generation ID" (Microsoft, 2012); `microsoft,vmgenid` in Linux's devicetree bindings.
"""

import os
from collections.abc import Callable

SIZE = 0x1000


class Generation:
    """`interrupt` tells the guest to look."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self.identity = os.urandom(16)

    def read(self, offset: int, size: int) -> int:
        return int.from_bytes(self.identity[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """Only the host changes it."""

    def change(self) -> None:
        self.identity = os.urandom(16)
        self._interrupt()
