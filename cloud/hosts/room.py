"""Room on hosts: what waits for some is woken when there may be more than there was."""

from uuid import UUID

from cloud.operations import engine
from cloud.operations.workflow import Topic

ROOM = Topic("room", UUID(int=0))
MAX_OFFERS = 20  # operations that look at once; the others look when those have taken what they could


def offer_room() -> None:
    """Some host may have room that it had not: wake the operations that have waited longest for it."""
    engine.tell_waiting(ROOM, limit=MAX_OFFERS)
