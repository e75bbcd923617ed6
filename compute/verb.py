"""What a verb of an instance is: the shape of the definitions in compute/verbs.py."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloud.api.fields import ReferenceField, ReferencesField
from cloud.api.serializers import Body, Nothing
from cloud.operations.workflow import Workflow
from compute import why_not
from compute.models import Instance, Power

Refusal = Callable[[Instance], str]
NEVER: Refusal = why_not.nothing


@dataclass(frozen=True, kw_only=True)
class Work:
    """Work on an instance, and how it is told of. Its event is `compute.instance.{name}`."""

    name: str
    workflow: type[Workflow]
    gerund: str  # "stopping": of its operations
    past: str  # "stopped": of its events
    status: str = ""  # of the instance meanwhile; without one it keeps the status of what is seen
    boots: bool = False  # whether it is a start of the guest, with a boot timeline
    steps: Mapping[str, str] = field(default_factory=dict)  # of its workflow → what people read


@dataclass(frozen=True, kw_only=True)
class Verb(Work):
    """What can be done with an instance that is there.

    `why_not` is the refusal of the service and the tooltip of the button. `already` is of the button alone: the API
    takes what is so already for a success.
    """

    service: Callable[..., Any]  # takes instance, actor and the fields of the body
    body: type[Body] = Nothing
    body_for_many: type[Body] | None = None  # where it is not the same
    method: str = "POST"  # …/{name}; DELETE is without a name
    makes_instances: bool = False  # and returns them; other services return the operation
    asks_quota: bool = False
    generates_password: bool = False  # where its body has none, and shows it once
    restores: Power | None = None  # the power that the reconciler makes true by it

    why_not: Refusal = NEVER
    already: Refusal = NEVER

    label: str  # of its dialog, before the name of the instance
    button: str = ""  # of its button, where that is not the label
    icon: str
    doing: str  # "web is {doing}."
    says: str  # what it does, for the API's document and the dialog
    says_for_many: str = ""  # for dialogs without a template of their own
    asks: bool = False  # whether a dialog asks first, and says what will be lost
    in_rows: bool = False  # whether rows of the list have its button
    style: str = ""
    taken_back_by: str = ""  # the verb that makes it undone

    @property
    def for_many(self) -> type[Body]:
        """What ActionForm takes for it beside the instances."""
        return self.body_for_many or self.body

    @property
    def is_for_any_project(self) -> bool:
        """Whether it names nothing else of the project, so that instances of several projects can have it at once."""
        fields = self.for_many().get_fields().values()
        return not any(isinstance(field, ReferenceField | ReferencesField) for field in fields)


def is_so(*statuses: str) -> Refusal:
    """A refusal for instances that are so already, by the status that the dashboard's rows carry."""

    def already(instance: Instance) -> str:
        status = getattr(instance, "status", "")
        return f"It is {status} already." if status in statuses else ""

    return already
