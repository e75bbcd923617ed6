"""Consoles: a URL that one caller may open once, and soon, and what a host is asked for behind it."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.db import transaction
from django.db.models.functions import Now

from cloud.events.services import Actor, record
from cloud.problems import NotFound, Unavailable
from cloud.streams import handover
from compute.models import ConsoleTicket, Instance, Power
from compute.services import WrongState

KINDS = ("serial", "vnc")
TICKET_LIFE = timedelta(seconds=60)
SERIAL = re.compile(r"console=(ttyS|ttyAMA|hvc|sbi)")  # what a kernel that is booted directly is told to speak on
RUNS = (Power.RUNNING, Power.PAUSED)


class HostUnreachable(Unavailable):
    """The host that would have to answer does not."""

    code: ClassVar[str] = "host_unreachable"
    title: ClassVar[str] = "The instance's host does not answer"


@dataclass(frozen=True)
class Ticket:
    """What was given out; `secret` is in no database."""

    secret: str
    kind: str
    expires_at: datetime


def why_no_screen(instance: Instance) -> str:
    """Why looking at its screen makes no sense, in words; "" where its guest draws there."""
    if not instance.hypervisor_facts.get("graphics", True):
        return f"{instance.hypervisor} gives its machines no screen."
    spoken = [word for word in instance.kernel_command_line.split() if word.startswith("console=")]
    if spoken and all(SERIAL.match(word) for word in spoken):
        return f"{instance.image.name} draws nothing: its console is the serial port."
    return ""


def require_answer(instance: Instance, kind: str) -> None:
    """Ask the host whether there is such a console. Waits for it, so in no transaction.

    Raises WrongState or HostUnreachable.
    """
    if instance.host_id is None or instance.seen not in RUNS:
        raise WrongState(f"{instance.name} does not run: it has no console. What it said last is in its log.")
    answer, _ = handover.ask_host(instance.host_id, {**_wish(instance, kind), "ask": True})
    match answer.get("code"):
        case None:
            return
        case "host_unreachable":
            raise HostUnreachable(f"The host of {instance.name} is not connected. The machine itself may well run.")
        case "not_offered" if kind == "vnc":
            raise WrongState(f"{instance.name} has no screen: its hypervisor has none. It has a serial console.")
        case _:
            raise WrongState(f"{instance.name} has no console now: {answer.get('because')}.")


def give_ticket(*, instance: Instance, kind: str, holder: str, actor: Actor) -> Ticket:
    """A one-time right to open a console. `holder` names the session or the token that may."""
    ConsoleTicket.objects.filter(instance=instance, expires_at__lt=Now()).delete()
    secret = secrets.token_urlsafe(32)
    ticket = ConsoleTicket.objects.create(
        digest=_digest(secret),
        instance=instance,
        generation=instance.generation,
        kind=kind,
        holder=_digest(holder),
        expires_at=Now() + TICKET_LIFE,
    )
    ticket.refresh_from_db(fields=["expires_at"])
    record("compute.instance.console", instance, actor=actor, after={"kind": kind})
    return Ticket(secret, kind, ticket.expires_at)


@transaction.atomic
def redeem(secret: str, *, holder: str) -> tuple[Instance, dict[str, Any]]:
    """Use a ticket up: its instance, and what its host is asked for; nothing is asked of a machine that has changed.

    Somebody else's try does not use it up: it tells him nothing, and takes nothing from its owner. Raises NotFound.
    """
    found = ConsoleTicket.objects.filter(digest=_digest(secret), holder=_digest(holder), expires_at__gt=Now())
    ticket = found.select_for_update(of=("self",)).select_related("instance__machine").first()
    if ticket is None:
        raise NotFound("This console URL is unknown, used, late, or not yours. Ask for another one.")
    instance = ticket.instance
    ticket.delete()
    if instance.host_id is None or instance.seen not in RUNS or instance.generation != ticket.generation:
        return instance, {}
    return instance, _wish(instance, ticket.kind)


def _wish(instance: Instance, what: str) -> dict[str, Any]:
    return {"what": what, "machine": str(instance.pk), "generation": instance.generation}


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
