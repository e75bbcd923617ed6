"""Volume types: the speeds that are offered, and their prices."""

import re
from typing import Any
from uuid import UUID

from django.db.models import Count, QuerySet

from cloud.pages import forms
from cloud.pages.bulk import ForMany
from cloud.pages.generic import ChangePage, ListPage, ResourcePage, VerbPage
from storage import pools
from storage.api.volume_types import VolumeTypeForm
from storage.models import VolumeType
from storage.services import volume_types

PROJECTS = forms.Field(
    lambda post, name: {name: [word for word in re.split(r"[\s,]+", post.get(name, "")) if word]},
    lambda projects: "\n".join(sorted(project.name for project in projects.all())),
)

POOL = forms.Field(lambda post, name: {name: post.get(name) or None}, lambda pool: str(pool or ""))


def pool_choices(chosen: UUID | None = None) -> list[tuple[str, str]]:
    """Where volumes of a type can be; also where those of a type are now, if no host has that mounted."""
    found = [(str(pool.id), str(pool)) for pool in pools.known()]
    if chosen and str(chosen) not in dict(found):
        found.append((str(chosen), f"{chosen}, which no host reaches"))
    return [("", "On the disk of one host"), *found]


class VolumeTypePage(ResourcePage):
    model, key, title = VolumeType, "volume_type", "Volume types"
    listed_at = section = "volume-types"
    help = "operating#volumes"
    for_cloud_admins = True
    form = VolumeTypeForm
    fields = {
        "name": forms.REQUIRED,
        "description": forms.Field(forms.required),
        **dict.fromkeys(("iops", "mib_per_second"), forms.OPTIONAL_WHOLE),
        "price_per_gib_hour": forms.Field(forms.texts, str),
        "pool": POOL,
        **dict.fromkeys(("enabled", "public"), forms.FLAG),
        "projects": PROJECTS,
    }

    def rows(self) -> "QuerySet[Any]":
        return VolumeType.objects.annotate(volume_count=Count("volumes"))


class VolumeTypes(VolumeTypePage, ListPage):
    template = "storage/volume_types/list.html"
    sorts = {
        "name": "name",
        "iops": "iops",
        "bandwidth": "mib_per_second",
        "price": "price_per_gib_hour",
        "volumes": "-volume_count",
    }
    live = "volume_type volume"

    def initial(self) -> dict[str, Any]:
        return {"enabled": "on", "public": "on", "price_per_gib_hour": "0.0001"}

    def around(self) -> dict[str, Any]:
        return {**super().around(), "pools": pool_choices()}

    def create(self, body: dict[str, Any]) -> VolumeType:
        return volume_types.create(actor=self.scope.actor, wished=body)

    def created(self, made: VolumeType) -> str:
        return f"{made.name} is offered now."

    def bulk_verbs(self) -> tuple[ForMany, ...]:
        return (ForMany(DeleteVolumeType),)


class OneVolumeType(VolumeTypePage, ChangePage):
    """The same form, for one that exists."""

    template = "storage/volume_types/change.html"

    def fill(self) -> dict[str, Any]:
        return {**super().fill(), "pools": pool_choices(self.item.pool)}

    def read(self) -> dict[str, Any]:
        return super().read() | ({"rebind": True} if "rebind" in self.request.POST else {})

    def change(self, changes: dict[str, Any]) -> VolumeType:
        return volume_types.update(volume_type=self.item, actor=self.scope.actor, changes=changes)

    def changed(self, row: VolumeType) -> str:
        return f"{row.name} is changed."


class MakeDefault(VolumeTypePage, VerbPage):
    """In place of the one that is the default until now."""

    def act(self) -> VolumeType:
        return volume_types.update(volume_type=self.item, actor=self.scope.actor, changes={"is_default": True})

    def done(self, result: VolumeType) -> str:
        return f"New volumes are of the type {result.name} now, unless they say another one."


class DeleteVolumeType(VolumeTypePage, VerbPage):
    def act(self) -> None:
        volume_types.delete(volume_type=self.item, actor=self.scope.actor)

    def done(self, result: None) -> str:
        return f"{self.item.name} is deleted."
