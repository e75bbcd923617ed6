"""What uses what: a thing in use is not deleted, and the refusal names its users."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from django.db.models import Model

from cloud.problems import Conflict, Fault

MAX_NAMED = 10


@dataclass(frozen=True)
class Use:
    """Something that uses another thing."""

    type: str
    id: str
    name: str


class InUse(Conflict):
    """It cannot be deleted, or changed like this, while something uses it. `used_by` names what."""

    title: ClassVar[str] = "This is in use"


def use(kind: str, row: Model) -> Use:
    return Use(kind, str(row.pk), str(row))


def refuse_if_used(row: Model, uses: Iterable[Use], *, elsewhere: int = 0, hint: str = "") -> None:
    """Raises InUse when there are any. `elsewhere`: how many belong to other projects, of which nothing is told."""
    found = list(dict.fromkeys(uses))
    if not found and not elsewhere:
        return
    named = [f"{one.type.replace('_', ' ')} {one.name}" for one in found[:MAX_NAMED]]
    if len(found) > MAX_NAMED:
        named[-1] += f" and {len(found) - MAX_NAMED} more"
    if elsewhere:
        named.append(f"{elsewhere} thing{'s' if elsewhere > 1 else ''} of other projects")
    words = f"{row} is in use by {', '.join(named)}. {hint}".strip()
    shown: list[dict[str, Any]] = [{"type": one.type, "id": one.id, "name": one.name} for one in found]
    raise InUse(words, errors=[Fault("", words, "conflict")], extra={"used_by": shown})
