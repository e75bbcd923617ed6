# SPDX-License-Identifier: GPL-2.0-or-later
"""The network device. Source: VIRTIO 1.2, section 5.1."""

import struct
from collections import deque
from collections.abc import Callable

from .virtio import Bus, Device

RECEIVE, TRANSMIT = 0, 1  # queues
F_MAC, F_STATUS = 1 << 5, 1 << 16
LINK_UP = 1
HEADER_SIZE = 12
RECEIVE_HEADER = struct.pack("<BBHHHHH", 0, 0, 0, 0, 0, 0, 1)  # no offloads, one buffer
FRAME_LIMIT = 65_550
WAITING_LIMIT = 256  # frames that a guest has no buffers for yet


class Net(Device):
    """Frames of the guest go to `send`; `deliver` puts one into the guest."""

    DEVICE_ID = 1
    QUEUES = 2
    NAME = "net"

    def __init__(self, bus: Bus, interrupt: Callable[[bool], None], mac: bytes, send: Callable[[bytes], None]) -> None:
        self.mac = mac
        self._send = send
        self._waiting: deque[bytes] = deque(maxlen=WAITING_LIMIT)
        self.counts = {"received": 0, "sent": 0, "received_bytes": 0, "sent_bytes": 0, "dropped": 0}
        super().__init__(bus, interrupt, F_MAC | F_STATUS)

    def reset(self) -> None:
        self._waiting.clear()
        super().reset()

    def configuration(self) -> bytes:
        return self.mac + struct.pack("<HHH", LINK_UP, 1, 1500) + bytes(12)

    def serve(self, number: int) -> None:
        if number == RECEIVE:
            self._hand_over()
            return
        for chain in self.chains(TRANSMIT):
            frame = self.gather(chain)[HEADER_SIZE:]
            self.give_back(TRANSMIT, chain, 0)
            if 14 <= len(frame) <= FRAME_LIMIT:
                self.counts["sent"] += 1
                self.counts["sent_bytes"] += len(frame)
                self._send(frame)

    @property
    def has_room(self) -> bool:
        """Whether a frame delivered now would not push out another."""
        return len(self._waiting) < WAITING_LIMIT

    def deliver(self, frame: bytes) -> None:
        """A frame for the guest; frames that wait too many are dropped, the oldest first."""
        if not self.is_live:
            self.counts["dropped"] += 1
            return
        if not self.has_room:
            self.counts["dropped"] += 1
        self._waiting.append(frame)
        self.notify(RECEIVE)

    def _hand_over(self) -> None:
        while self._waiting and (chain := self.take(RECEIVE)) is not None:
            frame = self._waiting.popleft()
            if chain.room < HEADER_SIZE + len(frame):
                self.counts["dropped"] += 1
                self.give_back(RECEIVE, chain, 0)
                continue
            self.give_back(RECEIVE, chain, self.scatter(chain, RECEIVE_HEADER + frame))
            self.counts["received"] += 1
            self.counts["received_bytes"] += len(frame)
