# SPDX-License-Identifier: GPL-2.0-or-later
"""The entropy device. Source: VIRTIO 1.2, section 5.4."""

import os

from .virtio import Device

LIMIT = 4096  # bytes per buffer: a device may fill less than it is offered


class Rng(Device):
    """Randomness of the host's kernel."""

    DEVICE_ID = 4
    NAME = "rng"

    def serve(self, number: int) -> None:
        for chain in self.chains(0):
            self.give_back(0, chain, self.scatter(chain, os.urandom(min(LIMIT, chain.room))))
