"""Waiting for networks of this host: a machine is ordered together with them, and plugs in when they are made."""

import time
from collections.abc import Mapping

from agent.entries import Key
from agent.errors import OPERATOR, Refused
from agent.ledger import Ledger
from agent.work import Work

TYPE = "network"
MAX_SECONDS = 90.0  # longer than an order takes to fail when the network process does not answer
SECONDS_BETWEEN_LOOKS = 0.02


def until_made(ledger: Ledger, wanted: Mapping[str, int], work: Work) -> None:
    """Wait until these networks have been made as of a generation, or of a newer one. `wanted`: generations by id.

    Raises Refused when one cannot be made, or is not in time; Abandoned.
    """
    deadline = time.monotonic() + MAX_SECONDS
    with work.waiting():
        for id_, generation in wanted.items():
            while not _is_made(ledger, Key(TYPE, id_), generation):
                if time.monotonic() > deadline:
                    raise Refused(f"this host has not made its network in {MAX_SECONDS:.0f} seconds")
                work.sleep(SECONDS_BETWEEN_LOOKS)


def _is_made(ledger: Ledger, key: Key, generation: int) -> bool:
    """Raises Refused when it cannot be."""
    entry = ledger.get(key)
    if entry is None or entry.generation < generation or entry.order is not None:
        return False
    if entry.seen == "broken":
        words = f"this host cannot make its network: {entry.facts.get('problem') or 'no reason is known'}"
        raise Refused(words, fix_by=str(entry.facts.get("fix_by", OPERATOR)))
    return entry.seen == "present"
