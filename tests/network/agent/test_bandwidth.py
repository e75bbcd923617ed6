"""How much passes a port is limited, each way, and changed while it is used: by what arrives of a flood."""

import contextlib
import socket
import threading
import time

import pytest

from tests.network.agent import lab
from tests.network.agent.test_routers import closing  # noqa: F401

SLOW, QUICK = 5, 20  # Mbit/s
MARGIN = 1.2  # of measuring
ENOUGH = 1 << 18  # bytes


@pytest.fixture
def arriving(host, closing):  # noqa: F811
    """A network of two guests, `a` of which floods `b`; measures what arrives, in Mbit/s, under limits of ports."""
    spec = lab.network(host, rules=[lab.ingress("udp", 80, 80)], a="10.0.0.10", b="10.0.0.11")
    host.apply(spec)
    a, b = (closing(lab.Machine(host.guest(spec, name))) for name in "ab")
    with a.within():
        sender = closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with b.within():
        taker = closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        taker.bind(("", 80))
    stopped, unlimited = threading.Event(), threading.Event()

    def flood() -> None:
        """Some 80 Mbit/s while there are limits, which leaves the processor to others; else all that goes."""
        with contextlib.suppress(OSError):
            while not stopped.wait(0 if unlimited.is_set() else 0.001):
                for _ in range(8):
                    sender.sendto(bytes(1400), ("10.0.0.11", 80))

    def received() -> int:
        return host.client.counters()["ports"][b.guest.id]["received_bytes"]

    def measure(**limits: int) -> float:
        for port in spec["ports"]:
            port["mbps"] = limits.get(port["name"])
        host.apply(spec)
        if not limits:
            unlimited.set()
        # A second's worth passes at once, whenever that is: beyond it no pause of a busy machine lets more through.
        start, began, at_once = received(), time.monotonic(), min(limits.values(), default=0) * 125_000
        lab.wait_for(lambda: received() > start + 2 * at_once + ENOUGH, 30)
        return (received() - start - at_once) * 8 / 1e6 / (time.monotonic() - began)

    thread = threading.Thread(target=flood)
    thread.start()
    yield measure
    stopped.set()
    thread.join()


def test_what_a_guest_sends_and_what_it_receives_is_limited_and_changed_live(arriving):
    """A machine under load may send less than it may; never more."""
    for name in "ab":
        slow, quick = arriving(**{name: SLOW}), arriving(**{name: QUICK})
        assert slow < SLOW * MARGIN < quick < QUICK * MARGIN
        assert 2 < quick / slow < 7
    assert arriving(a=SLOW, b=QUICK) < SLOW * MARGIN  # the smaller one holds
    lab.wait_for(lambda: arriving() > QUICK * MARGIN, 60)
