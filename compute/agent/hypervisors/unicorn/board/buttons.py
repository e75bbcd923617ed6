# SPDX-License-Identifier: GPL-2.0-or-later
"""The power button, and the key that wakes: a keyboard with two keys. Source: VIRTIO 1.2, section 5.8.

The second tells a guest that it goes on from a snapshot as somebody else.
"""

import struct

from .virtio import Device

EVENTS, STATUS = 0, 1  # queues
ID_NAME, ID_SERIAL, ID_DEVIDS, EV_BITS = 0x01, 0x02, 0x03, 0x11  # what the driver may ask for
EV_SYN, EV_KEY, KEY_POWER, KEY_WAKEUP = 0, 1, 116, 143  # linux/input-event-codes.h
BUS_VIRTUAL = 6


class Buttons(Device):
    """`press` is what a person does."""

    DEVICE_ID = 18
    QUEUES = 2
    NAME = "buttons"

    def reset(self) -> None:
        self.selected = self.subselected = 0
        super().reset()

    def configuration(self) -> bytes:
        content = self._answer()
        return bytes((self.selected, self.subselected, len(content))) + bytes(5) + content.ljust(128, b"\0")

    def _answer(self) -> bytes:
        if self.selected == ID_NAME:
            return b"Pileus buttons"
        if self.selected == ID_DEVIDS:
            return struct.pack("<4H", BUS_VIRTUAL, 1, 1, 1)
        if self.selected == EV_BITS and self.subselected == EV_KEY:
            return (1 << KEY_POWER | 1 << KEY_WAKEUP).to_bytes(KEY_WAKEUP // 8 + 1, "little")
        return b""

    def configure(self, offset: int, value: int) -> None:
        if offset == 0:
            self.selected = value & 0xFF
        elif offset == 1:
            self.subselected = value & 0xFF

    def serve(self, number: int) -> None:
        """Buffers for events wait until there are events; what the driver says of LEDs is returned unread."""
        if number == STATUS:
            for chain in self.chains(STATUS):
                self.give_back(STATUS, chain, 0)

    def press(self, key: int) -> None:
        """Down and up. Without a driver nobody notices."""
        for kind, code, value in ((EV_KEY, key, 1), (EV_SYN, 0, 0), (EV_KEY, key, 0), (EV_SYN, 0, 0)):
            self._send(struct.pack("<HHI", kind, code, value))

    def _send(self, event: bytes) -> None:
        if self.is_live and (chain := self.take(EVENTS)) is not None:
            self.give_back(EVENTS, chain, self.scatter(chain, event))
