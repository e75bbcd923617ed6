# SPDX-License-Identifier: GPL-2.0-or-later
"""The real-time clock: Goldfish RTC, which tells the time in nanoseconds since 1970. Its alarm does not ring.

Source: Android's docs/GOLDFISH-VIRTUAL-HARDWARE.TXT, section "Goldfish real-time clock"; `google,goldfish-rtc`.
"""

import time

SIZE = 0x1000
TIME_LOW, TIME_HIGH = 0x00, 0x04


class Rtc:
    """Reading the low half latches the high one."""

    def __init__(self) -> None:
        self.latched = 0

    def read(self, offset: int, size: int) -> int:
        if offset == TIME_LOW:
            now = time.time_ns()
            self.latched = now >> 32
            return now & 0xFFFF_FFFF
        return self.latched if offset == TIME_HIGH else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest cannot set the host's clock."""
