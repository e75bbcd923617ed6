"""What can be done with an instance: each verb with what it will do, or with why it is not possible now."""

from dataclasses import dataclass

from cloud.tenancy.models import Role
from compute import services
from compute.models import Instance

TAKEN_BACK = {"stop": "start", "pause": "resume", "suspend": "resume"}  # the verbs that another one makes undone


@dataclass(frozen=True)
class Action:
    """A button. `why_not` is empty when it can be pressed."""

    verb: str
    label: str
    icon: str
    why_not: str = ""
    asks: bool = False  # whether a page of its own asks first, and says what will be lost
    style: str = ""
    in_lists: bool = True


def actions_for(instance: Instance, *, role: str) -> list[Action]:
    """The verbs for an instance that carries its status, as a member with this role may use them."""
    status = instance.status  # type: ignore[attr-defined]
    refusals = {
        "start": _why_not_start(instance, status),
        "stop": _why_not_stop(instance, status),
        "reboot": _why_not_reboot(instance, status),
        "pause": _why_not_still(instance, status, "pause"),
        "suspend": _why_not_still(instance, status, "suspend"),
        "resume": _why_not_resume(instance, status),
        "clone": _why_not_clone(instance, status),
        "delete": "It is being deleted already." if status == "deleting" else "",
    }
    if role == Role.VIEWER:
        refusals = dict.fromkeys(refusals, "As a viewer you may look only; an admin of the project can change that.")
    return [
        Action("start", "Start", "play", refusals["start"]),
        Action("stop", "Stop", "stop", refusals["stop"], asks=True),
        Action("reboot", "Reboot", "restart", refusals["reboot"], asks=True),
        Action("pause", "Pause", "pause", refusals["pause"], in_lists=False),
        Action("suspend", "Suspend", "moon", refusals["suspend"], in_lists=False),
        Action("resume", "Resume", "play", refusals["resume"], in_lists=False),
        Action("clone", "Clone", "copy", refusals["clone"], asks=True, in_lists=False),
        Action("delete", "Delete", "trash", refusals["delete"], asks=True, style="danger"),
    ]


def _why_not_start(instance: Instance, status: str) -> str:
    if status == "deleting":
        return "It is being deleted."
    if status in ("running", "launching", "starting", "rebooting"):
        return f"It is {status} already."
    if status in ("paused", "suspended"):
        return f"It is {status}. Resume it instead."
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


def _why_not_still(instance: Instance, status: str, verb: str) -> str:
    standing = {"pause": ("paused", "suspended"), "suspend": ("suspended",)}[verb]
    if status in standing:
        return f"It is {status} already."
    if status not in ("running", "paused"):
        return "It is not running."
    if not services.can(instance, verb):
        return f"{instance.hypervisor} on its host cannot {verb} machines."
    return _why_not_busy(instance)


def _why_not_resume(instance: Instance, status: str) -> str:
    if status not in ("paused", "suspended"):
        return "It is neither paused nor suspended."
    return _why_not_busy(instance)


def _why_not_clone(instance: Instance, status: str) -> str:
    if status not in ("running", "paused", "suspended"):
        return "It is not running: a clone goes on from what is in its memory."
    if not services.can(instance, "clone"):
        return f"{instance.hypervisor} on its host cannot clone machines."
    return _why_not_busy(instance)


def _why_not_busy(instance: Instance) -> str:
    busy = instance.live_operation  # type: ignore[attr-defined]
    return "Something else is under way with it." if busy else ""
