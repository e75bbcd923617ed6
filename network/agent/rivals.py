"""Whether anybody else on a segment has an address that leads to a guest here: then packets for it go astray."""

import contextlib
import select
import socket
import time

from network.agent import packets
from network.agent.netlink import Netlink, mac_bytes
from network.agent.questions import BROADCAST, NOBODY
from network.agent.specs import Address

SECONDS_TO_ANSWER = 0.3
ASK = 1
ARP = int.from_bytes(packets.ARP_TYPE, "big")


class Rival:
    """Asked for as soon as this is made, in the present network namespace; `found` waits a moment for an answer.

    Only others are heard: the host's own answers go out by the same device.
    """

    def __init__(self, device: str, address: Address) -> None:
        """Raises OSError, KeyError for a device that is not there."""
        with Netlink() as kernel:
            mac = kernel.links()[device].mac
        self._address = address
        self._wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._until = time.monotonic() + SECONDS_TO_ANSWER
        try:
            self._wire.bind((device, ARP))
            asked = packets.arp(ASK, mac, NOBODY, address)
            self._wire.send(mac_bytes(BROADCAST) + mac_bytes(mac) + packets.ARP_TYPE + asked)
        except OSError:
            self._wire.close()
            raise

    def found(self) -> bool:
        """Whether somebody has answered; in whatever thread and namespace, once."""
        poll = select.poll()
        with self._wire, contextlib.suppress(OSError):  # the device has gone meanwhile
            poll.register(self._wire, select.POLLIN)
            while poll.poll(max(0.0, self._until - time.monotonic()) * 1000):
                if self._wire.recv(100)[28:32] == self._address.packed:
                    return True
                if time.monotonic() > self._until:
                    break
        return False
