"""The buttons of an instance: each verb with what it will do, or with why it is not possible now."""

from collections.abc import Iterable
from dataclasses import dataclass

from cloud.tenancy.models import Role
from compute.models import Instance
from compute.verb import Verb
from compute.verbs import PURGE, VERBS

DELETE = VERBS["delete"]
MAIN = ("resume", "start", "stop")


@dataclass(frozen=True)
class Action:
    """A button. `why_not` is empty when it can be pressed."""

    verb: Verb
    why_not: str = ""


def actions_for(instance: Instance, *, role: str) -> dict[str, Action]:
    """By name, the verbs for an instance that carries its status, as a member with this role may use them."""
    if role == Role.VIEWER:
        words = "As a viewer you may look only; an admin of the project can change that."
        return {name: Action(verb, words) for name, verb in VERBS.items()}
    return {name: Action(verb, _why_not(verb, instance)) for name, verb in VERBS.items()}


def main_of(actions: Iterable[Action]) -> Action:
    """The one beside *Console*: what goes on with an instance that stands still, or ends one that runs."""
    by_name = {action.verb.name: action for action in actions}
    possible = (by_name[name] for name in MAIN if not by_name[name].why_not)
    return next(possible, by_name["stop"])


def _why_not(verb: Verb, instance: Instance) -> str:
    live = instance.live_operation  # type: ignore[attr-defined]
    if live and live["kind"] in (DELETE.workflow.kind, PURGE.workflow.kind):
        return "It is being deleted already." if verb is DELETE else "It is being deleted."
    if words := verb.already(instance) or verb.why_not(instance):
        return words
    is_busy = live and live["kind"] not in verb.workflow.supersedes
    return "Something else is under way with it." if is_busy else ""


def dialog_of(name: str) -> list[str]:
    """The templates that may say what a verb does, the first that is there: its own, or the plain one."""
    return [f"compute/instances/verbs/{name}.html", "compute/instances/verbs/plain.html"]
