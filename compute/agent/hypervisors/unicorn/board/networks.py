# SPDX-License-Identifier: GPL-2.0-or-later
"""What a NIC may be plugged into: nobody but a DHCP server, or a descriptor that the agent has opened."""

import contextlib
import os
from collections.abc import Callable
from typing import Any, Protocol

from .user_network import UserNetwork

FRAME_LIMIT = 65_550
FRAMES_AT_ONCE = 64


class Network(Protocol):
    """`deliver` is set by the machine: it takes frames for the guest, on the processor's thread."""

    deliver: Callable[[bytes], None]

    def send(self, frame: bytes) -> None:
        """A frame of the guest, on the processor's thread."""

    def fileno(self) -> int | None:
        """What becomes readable when frames have come."""

    def receive(self) -> list[bytes]:
        """The frames that have come, on another thread."""


class Isolated:
    """`user_network`: a guest that gets an address and reaches nothing."""

    def __init__(self, hostname: str) -> None:
        self.deliver: Callable[[bytes], None] = lambda frame: None
        self._network = UserNetwork(hostname)

    def send(self, frame: bytes) -> None:
        answer = self._network.answer(frame)
        if answer:
            self.deliver(answer)

    def fileno(self) -> int | None:
        return None

    def receive(self) -> list[bytes]:
        return []


class Descriptor:
    """A tap, or a socket that keeps frames apart: one read or write is one frame. What does not fit is lost."""

    def __init__(self, descriptor: int) -> None:
        self.deliver: Callable[[bytes], None] = lambda frame: None
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)
        os.set_inheritable(descriptor, False)

    def send(self, frame: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self._descriptor, frame)

    def fileno(self) -> int | None:
        return self._descriptor

    def receive(self) -> list[bytes]:
        frames: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while len(frames) < FRAMES_AT_ONCE and (frame := os.read(self._descriptor, FRAME_LIMIT)):
                frames.append(frame)
        return frames


def plug(description: dict[str, Any]) -> Network:
    """{"network": "isolated", "hostname"} or {"network": "descriptor", "descriptor"}. Raises ValueError or OSError."""
    if description["network"] == "isolated":
        return Isolated(str(description.get("hostname") or ""))
    if description["network"] == "descriptor":
        return Descriptor(int(description["descriptor"]))
    raise ValueError(f"no such network: {description['network']!r}")
