# SPDX-License-Identifier: GPL-2.0-or-later
"""The serial port: a 16550A.

Source: TL16C550C data sheet (Texas Instruments, SLLS177), section "Principles of operation"; `ns16550a` in Linux's
devicetree bindings. Transmission takes no time, so the transmitter is always empty.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

SIZE = 0x1000
DATA, INTERRUPT_ENABLE, IDENTIFICATION, LINE_CONTROL, MODEM_CONTROL, LINE_STATUS, MODEM_STATUS, SCRATCH = range(8)
DIVISOR_LATCH = 0x80
RECEIVED, TRANSMITTER_EMPTY, LINE = 1, 2, 4  # bits of the interrupt enable register
LOOPBACK = 0x10
FIFO_ENABLE, CLEAR_RECEIVER = 1, 2
TRANSMIT_READY = 0x60
# The wire between a person and the port: what is typed beyond this waits in the socket.
RECEIVE_LIMIT = 4096


class Uart:
    """`interrupt` gets the level of the port's line; `transmit` what the guest says."""

    def __init__(self, interrupt: Callable[[bool], None], transmit: Callable[[bytes], None]) -> None:
        self._interrupt = interrupt
        self._transmit = transmit
        self.received: deque[int] = deque()
        self.enabled = self.line_control = self.modem_control = self.scratch = self.fifo_control = 0
        self.divisor = 1
        self.transmitter_event = False

    @property
    def room(self) -> int:
        """How many bytes may be fed now."""
        return RECEIVE_LIMIT - len(self.received)

    def feed(self, content: bytes) -> None:
        """What somebody typed."""
        self.received.extend(content[: self.room])
        self._update()

    def take(self, limit: int) -> bytes:
        """What was typed, for a firmware call that reads the console."""
        taken = bytes(self.received.popleft() for _ in range(min(limit, len(self.received))))
        self._update()
        return taken

    def read(self, offset: int, size: int) -> int:
        register = offset & 7
        latched = self.line_control & DIVISOR_LATCH
        if register == LINE_STATUS:
            return TRANSMIT_READY | bool(self.received)
        if register == DATA:
            if latched:
                return self.divisor & 0xFF
            byte = self.received.popleft() if self.received else 0
            self._update()
            return byte
        if register == INTERRUPT_ENABLE:
            return self.divisor >> 8 if latched else self.enabled
        if register == IDENTIFICATION:
            return self._identify()
        # Modem status: carrier, ready and clear to send.
        return {
            LINE_CONTROL: self.line_control,
            MODEM_CONTROL: self.modem_control,
            MODEM_STATUS: 0xB0,
            SCRATCH: self.scratch,
        }[register]

    def write(self, offset: int, size: int, value: int) -> None:
        register, value = offset & 7, value & 0xFF
        latched = self.line_control & DIVISOR_LATCH
        if register == DATA:
            if latched:
                self.divisor = self.divisor & 0xFF00 | value
            else:
                self._send(value)
        elif register == INTERRUPT_ENABLE:
            if latched:
                self.divisor = self.divisor & 0xFF | value << 8
            else:
                if value & TRANSMITTER_EMPTY and not self.enabled & TRANSMITTER_EMPTY:
                    self.transmitter_event = True
                self.enabled = value & 0x0F
                self._update()
        elif register == IDENTIFICATION:
            self.fifo_control = value
            if value & CLEAR_RECEIVER:
                self.received.clear()
                self._update()
        elif register == LINE_CONTROL:
            self.line_control = value
        elif register == MODEM_CONTROL:
            self.modem_control = value & 0x1F
        elif register == SCRATCH:
            self.scratch = value

    def _send(self, byte: int) -> None:
        if self.modem_control & LOOPBACK:
            self.feed(bytes((byte,)))
        else:
            self._transmit(bytes((byte,)))
        if not self.transmitter_event:
            self.transmitter_event = True
            self._update()

    def _identify(self) -> int:
        """The interrupt with the highest priority; reading it answers the transmitter's."""
        fifo = 0xC0 if self.fifo_control & FIFO_ENABLE else 0
        if self.enabled & RECEIVED and self.received:
            return fifo | 0x04
        if self.enabled & TRANSMITTER_EMPTY and self.transmitter_event:
            self.transmitter_event = False
            self._update()
            return fifo | 0x02
        return fifo | 0x01

    def _update(self) -> None:
        receiving = self.enabled & RECEIVED and self.received
        sending = self.enabled & TRANSMITTER_EMPTY and self.transmitter_event
        self._interrupt(bool(receiving or sending))

    def save(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _REGISTERS} | {"received": bytes(self.received).hex()}

    def restore(self, state: dict[str, Any]) -> None:
        for name in _REGISTERS:
            setattr(self, name, state[name])
        self.received = deque(bytes.fromhex(state["received"])[:RECEIVE_LIMIT])


_REGISTERS = (
    "enabled",
    "line_control",
    "modem_control",
    "scratch",
    "fifo_control",
    "divisor",
    "transmitter_event",
)
