"""A new password for a user of a guest: a guest agent sets it at once, else the seed of the next start brings it.

The spec names it: {"id", "user", "hash", "taken"}. The facts of a machine say which one its emulator's seed brought
(`password_reset`), and which one the agent has set (`password_set`). They end with the emulator; `taken` says what the
control plane has read in them: a guest is told once, as whoever changes the password there later keeps that.
"""

from typing import Any

import structlog

from agent.entries import Entry
from agent.errors import NoAnswer
from compute.agent import guest_agent
from compute.agent.homes import Home
from compute.agent.hypervisors.base import Control

log = structlog.get_logger()


def in_seed(spec: dict[str, Any]) -> str | None:
    """The id of the one that a start tells the guest."""
    reset = spec["seed"].get("password_reset")
    return str(reset["id"]) if reset else None


def untold(entry: Entry) -> dict[str, Any] | None:
    """The one that has not come to the guest, neither by its seed nor by its agent."""
    reset: dict[str, Any] | None = entry.spec["seed"].get("password_reset")
    if not reset or reset.get("taken"):
        return None
    told = (entry.facts.get("password_reset"), entry.facts.get("password_set"))
    return reset if reset["id"] not in told else None


def tell(home: Home, control: Control, entry: Entry) -> dict[str, Any]:
    """Have the agent of a running guest set what is untold. Facts: what it has set.

    Raises NoAnswer for the emulator.
    """
    reset = untold(entry)
    if reset is None or not guest_agent.can(entry.facts, guest_agent.PASSWORD) or not control.guest_listens():
        return {}
    try:
        with guest_agent.talk(home) as agent:
            agent.set_password(reset["user"], reset["hash"])
    except NoAnswer as problem:  # the next start tells the guest
        log.warning("the guest agent sets no password", machine=entry.id, problem=str(problem))
        return {}
    return {"password_set": reset["id"]}
