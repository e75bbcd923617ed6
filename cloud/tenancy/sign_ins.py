"""Who came in, who left and who was refused, for the event log: from where, and whether a code was asked for."""

from uuid import UUID

from cloud.api import limits
from cloud.events.services import Actor, record
from cloud.tenancy import second_factor
from cloud.tenancy.models import User

NOBODY = UUID(int=0)  # the subject of an attempt on a name that nobody has
MAX_NAME = 63


def note(user: User, *, address: str, request_id: str = "") -> None:
    """Somebody has signed in."""
    facts = {"address": address, "second_factor": second_factor.is_on(user)}
    record("tenancy.user.sign_in", user, actor=_actor(user, request_id), after=facts)


def note_sign_out(user: User, *, address: str, request_id: str = "") -> None:
    record("tenancy.user.sign_out", user, actor=_actor(user, request_id), after={"address": address})


def note_refusal(username: str, *, address: str, gave: str) -> None:
    """Somebody `gave` a wrong password or code. The same is done for names that nobody has: it takes as long."""
    name = username.replace("\x00", "")[:MAX_NAME]
    user = User.objects.filter(username=name).first() or User(pk=NOBODY, username=name)
    facts = {"address": address, "gave": gave}
    record("tenancy.user.refuse_sign_in", user, actor=Actor(address[:80]), after=facts)


def note_too_many(username: str, *, address: str) -> None:
    """Somebody tries again and again, and has to wait; said once a minute."""
    if limits.take(f"too-many:{address}", rate=1 / 60, burst=1).allowed:
        note_refusal(username, address=address, gave="too many tries")


def _actor(user: User, request_id: str) -> Actor:
    return Actor(user.username, user.pk, request_id)
