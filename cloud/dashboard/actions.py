"""What can be done with an instance: each verb with what it will do, or with why it is not possible now."""

from dataclasses import dataclass

from cloud.tenancy.models import Role
from compute.models import Instance


@dataclass(frozen=True)
class Action:
    """A button. `why_not` is empty when it can be pressed."""

    verb: str
    label: str
    icon: str
    why_not: str = ""
    asks: bool = False  # whether a page of its own asks first, and says what will be lost
    style: str = ""


def actions_for(instance: Instance, *, role: str) -> list[Action]:
    """The verbs for an instance that carries its status, as a member with this role may use them."""
    status = instance.status  # type: ignore[attr-defined]
    refusals = {
        "start": _why_not_start(instance, status),
        "stop": _why_not_stop(instance, status),
        "reboot": _why_not_reboot(instance, status),
        "delete": "It is being deleted already." if status == "deleting" else "",
    }
    if role == Role.VIEWER:
        refusals = dict.fromkeys(refusals, "As a viewer you may look only; an admin of the project can change that.")
    return [
        Action("start", "Start", "play", refusals["start"]),
        Action("stop", "Stop", "stop", refusals["stop"], asks=True),
        Action("reboot", "Reboot", "restart", refusals["reboot"], asks=True),
        Action("delete", "Delete", "trash", refusals["delete"], asks=True, style="danger"),
    ]


def _why_not_start(instance: Instance, status: str) -> str:
    if status == "deleting":
        return "It is being deleted."
    if status in ("running", "launching", "starting", "rebooting", "paused"):
        return f"It is {status} already."
    return ""


def _why_not_stop(instance: Instance, status: str) -> str:
    if status == "deleting":
        return "It is being deleted."
    if status in ("stopped", "stopping"):
        return f"It is {status} already."
    if instance.failed_at or instance.host_id is None:
        return "It does not run: it has no host."
    return ""


def _why_not_reboot(instance: Instance, status: str) -> str:
    if status == "deleting":
        return "It is being deleted."
    if instance.host_id is None or instance.wanted_power != "running":
        return "It is not running. Start it instead."
    if status == "rebooting":
        return "It is rebooting already."
    return ""
