"""What a volume is attached to, on the page of the volume: the other side of what the page of an instance does."""

from typing import Any

from cloud.api.fields import Flag, ReferenceField
from cloud.api.serializers import Body
from cloud.pages import forms
from cloud.pages.base import Page
from cloud.tenancy.models import Project
from compute import why_not
from compute.models import Instance
from compute.services import attach_volume
from compute.status import with_status
from compute.volumes import HOLDER
from storage.models import Volume
from storage.pages.volumes import MAX_CHOICES, VolumeVerbPage

SHOWN_ON = "volume-holder"  # the id of the section


def of_volume(page: Page, volume: Volume) -> dict[str, Any]:
    """The section of a volume's page: the instances that have it, and whether one more may."""
    return {"may_attach": takes_more(volume), "holder_type": HOLDER}


def takes_more(volume: Volume) -> bool:
    """Whether it can be attached to an instance, if only read-only."""
    return not volume.held or volume.type.has_readers and all(one.read_only for one in volume.held)


def able(project: Project) -> list[Any]:
    """The instances that can have one more volume now, with their status."""
    there = with_status(Instance.objects.filter(project=project, trashed_at=None)).defer("user_data")
    shown = there.select_related("machine__host", "image", "project").order_by("name")[:MAX_CHOICES]
    return [instance for instance in shown if not why_not.attach_volume(instance)]


class AttachToForm(Body):
    """The instance, and how it has the volume."""

    instance = ReferenceField(lambda scope: Instance.objects.filter(project=scope.project, trashed_at=None))
    read_only = Flag(required=False)  # type: ignore[assignment]
    delete_with_instance = Flag(required=False)


class AttachTo(VolumeVerbPage):
    """To which instance."""

    template, form = "compute/sections/attach.html", AttachToForm
    help = "storage#what-a-volume-is-for"
    fields = {"instance": forms.REQUIRED, "read_only": forms.FLAG, "delete_with_instance": forms.FLAG}

    def fill(self) -> dict[str, Any]:
        held = {one.holder_id for one in self.item.held}
        instances = [(str(one.pk), f"{one.name} ({one.status})") for one in able(self.project) if one.pk not in held]
        return {
            **super().fill(),
            "instances": instances,
            "readers": self.item.held if takes_more(self.item) else [],
            "is_taken": not takes_more(self.item),
        }

    def initial(self) -> dict[str, Any]:
        return {"read_only": "on" if self.item.held else ""}

    def act(self, body: dict[str, Any]) -> Any:
        return attach_volume(actor=self.scope.actor, volume=self.item, **body)

    def done(self) -> str:
        return f"{self.item.name} is being attached."
