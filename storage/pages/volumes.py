"""Volumes: all of a project, and one with its snapshots and what can be done with it."""

from collections.abc import Callable, Iterable
from typing import Any

from django.db.models import Count, QuerySet
from django.http import HttpResponse

from cloud.operations.models import Operation
from cloud.pages import forms, words
from cloud.pages.bulk import ForMany
from cloud.pages.deleting import DiscardPage
from cloud.pages.generic import ChangePage, ItemFormPage, ItemPage, ListPage, ResourcePage
from cloud.tenancy.models import Project
from cloud.uses import Use
from storage import moving
from storage.api.volumes import (
    CloneVolumeForm,
    MoveForm,
    ResizeForm,
    RetypeForm,
    RevertForm,
    SnapshotForm,
    VolumeChanges,
    VolumeForm,
)
from storage.models import Image, Snapshot, Volume, VolumeType
from storage.pages.calendars import calendar_of
from storage.pages.captures import CreateImagePage
from storage.pages.history import history_of
from storage.services import captures, images_of, retyping, taking, trash, volume_types, volumes
from storage.status import STATUSES, reason, with_status

MAX_CHOICES = 500  # of a select
MAX_PAST = 5  # operations that have ended
SIZE = forms.Field(forms.whole)  # that may be left out


def choices(rows: Iterable[Any], words: Callable[[Any], str] = str) -> list[tuple[str, str]]:
    """Of a select: ids and words."""
    return [(str(row.pk), words(row)) for row in rows]


def types_for(project: Project) -> list[tuple[str, str]]:
    """The types that a project may choose from, the default first."""
    return choices(volume_types.offered_to(project).order_by("-is_default", "name")[:MAX_CHOICES], in_words)


def in_words(kind: VolumeType) -> str:
    """Its limits and its price."""
    limits = [f"{kind.iops} operations a second"] if kind.iops else []
    limits += [f"{kind.mib_per_second} MiB/s"] if kind.mib_per_second else []
    price = words.price(kind.price_per_gib_hour)
    return ", ".join([kind.name, *limits, price if price == "free" else f"{price} a GiB and hour"])


class VolumePage(ResourcePage):
    model, key, title = Volume, "volume", "Volumes"
    listed_at = section = "volumes"
    help = "storage#what-a-volume-is-for"

    def rows(self) -> "QuerySet[Volume]":
        own = Volume.objects.filter(project=self.project, trashed_at=None)
        return with_status(own.select_related("project", "active__host", "type", "backup_policy")).prefetch_related(
            "attachments"
        )


class Volumes(VolumePage, ListPage):
    template = "storage/volumes/list.html"
    form = VolumeForm
    sorts = {"name": "name", "status": "status", "size": "-size_gib", "snapshots": "-snapshot_count"}
    statuses = STATUSES
    troubled = ("error",)
    live = "volume snapshot"
    fields = {
        "name": forms.REQUIRED,
        "size_gib": SIZE,
        **dict.fromkeys(("type", "image", "snapshot", "volume"), forms.TEXT),
        "labels": forms.LABELS,
        "protected": forms.FLAG,
    }

    def initial(self) -> dict[str, Any]:
        return {"from": self.request.GET.get("from", "")}

    def adorn(self, found: "QuerySet[Volume]") -> "QuerySet[Any]":
        return found.annotate(snapshot_count=Count("snapshots"))

    def tell(self, shown: list[Any]) -> list[Any]:
        return [(volume, reason(volume)) for volume in shown]

    def around(self) -> dict[str, Any]:
        types = [("", "the same as what it begins with, or the default"), *types_for(self.project)]
        return {**super().around(), "sources": self._sources(), "types": types}

    def _sources(self) -> list[tuple[str, str]]:
        """What a volume may begin with, as values of one select."""
        images = [one for one in images_of(self.project)[:MAX_CHOICES] if volumes.disk_of(one)]
        snapshots = Snapshot.objects.filter(project=self.project, volume__trashed_at=None).exclude(consistency="")
        others = Volume.objects.filter(project=self.project, failed_reason="", trashed_at=None)
        return [
            ("", "nothing: it is empty"),
            *((f"image:{one.pk}", f"image {one.name}, at least {one.min_disk_gib} GiB") for one in images),
            *((f"snapshot:{one.pk}", f"snapshot {one.name}, at least {one.size_gib} GiB")
              for one in snapshots.order_by("name")[:MAX_CHOICES]),
            *((f"volume:{one.pk}", f"volume {one.name}, at least {one.size_gib} GiB")
              for one in others.order_by("name")[:MAX_CHOICES]),
        ]  # fmt: skip

    def read(self) -> dict[str, Any]:
        kind, _, ident = self.request.POST.get("from", "").partition(":")
        chosen = {kind: ident} if kind in ("image", "snapshot", "volume") else {}
        return {**super().read(), **chosen}

    def create(self, body: dict[str, Any]) -> Volume:
        return volumes.create(project=self.project, actor=self.scope.actor, **body)

    def created(self, made: Volume) -> str:
        return f"The volume {made.name} is here. Attach it to an instance to use it."

    def after_creating(self, made: Volume) -> str:
        return self.route("volume", made.pk)

    def bulk_verbs(self) -> tuple[ForMany, ...]:
        return (ForMany(DeleteVolume),)


class OneVolume(VolumePage, ItemPage):
    """Its state, its snapshots, and what other apps do with it."""

    template = "storage/volumes/volume.html"
    partials = {
        "volume-state": "storage/volumes/_state.html",
        "volume-work": "storage/volumes/_work.html",
        "volume-snapshots": "storage/volumes/_snapshots.html",
    }

    def fill(self) -> dict[str, Any]:
        found = Operation.objects.filter(subject_type="volume", subject_id=self.item.pk).order_by("-started_at")
        latest = list(found[: MAX_PAST + 1])
        return {
            **super().fill(),
            "reason": reason(self.item),
            "attachments": self.item.held,
            "history": history_of(self.item),
            "calendar": calendar_of(self.item, self.request.GET.get("month", "")),
            "live": next((one for one in latest if one.finished_at is None), None),
            "past": [one for one in latest if one.finished_at],
        }


class ChangeVolume(VolumePage, ChangePage):
    template, form = "storage/volumes/change.html", VolumeChanges
    fields = {"name": forms.REQUIRED, "labels": forms.LABELS, "protected": forms.FLAG}

    def change(self, changes: dict[str, Any]) -> Volume:
        return volumes.update(volume=self.item, actor=self.scope.actor, changes=changes)

    def after(self) -> str:
        return self.route("volume", self.item.pk)


class VerbFormPage(ItemFormPage):
    """A form for one verb: `act` calls the service."""

    def fill(self) -> dict[str, Any]:
        return {**super().fill(), "title": self.title, "the_list": self.the_list, "leave": self.leave()}

    def leave(self) -> str:
        """Where somebody goes who does not want it."""
        raise NotImplementedError

    def read(self) -> dict[str, Any]:
        return forms.read(self.request.POST, self.fields)

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        assert self.form is not None
        form = self.form
        return self.mutate(
            lambda: self.act(self.validate(form, body)),
            body=body,
            to=self.after_act,
            done=lambda result: self.done(),
        )

    def act(self, body: dict[str, Any]) -> Any:
        """Call the service."""
        raise NotImplementedError

    def done(self) -> str:
        """The words about it."""
        raise NotImplementedError

    def after_act(self, result: Any) -> str:
        return self.leave()


class VolumeVerbPage(VolumePage, VerbFormPage):
    """Of a volume; afterwards it is looked at again."""

    def leave(self) -> str:
        return self.route("volume", self.item.pk)


class ResizeVolume(VolumeVerbPage):
    template, form = "storage/volumes/resize.html", ResizeForm
    help = "storage#growing"
    fields = {"size_gib": forms.WHOLE}

    def initial(self) -> dict[str, Any]:
        return {"size_gib": self.item.size_gib + 1}

    def act(self, body: dict[str, Any]) -> Any:
        return volumes.resize(volume=self.item, actor=self.scope.actor, **body)

    def done(self) -> str:
        return f"{self.item.name} grows. Its guest then has to grow the filesystem on it."


class RetypeVolume(VolumeVerbPage):
    template, form = "storage/volumes/retype.html", RetypeForm
    help = "storage#types"
    fields = {"type": forms.REQUIRED}

    def initial(self) -> dict[str, Any]:
        return {"type": str(self.item.type_id)}

    def fill(self) -> dict[str, Any]:
        return {**super().fill(), "types": types_for(self.project)}

    def act(self, body: dict[str, Any]) -> Any:
        return retyping.retype(volume=self.item, actor=self.scope.actor, **body)

    def done(self) -> str:
        return f"The type of {self.item.name} changes."


class MoveVolume(VolumeVerbPage):
    """For admins of the cloud."""

    template, form = "storage/volumes/move.html", MoveForm
    help = "operating#moving"
    fields = {"host": forms.TEXT, "take_over": forms.FLAG}

    def fill(self) -> dict[str, Any]:
        self.scope.require_cloud_admin()
        others = moving.able_hosts().exclude(pk=self.item.active.host_id).order_by("name")[:MAX_CHOICES]
        hosts = choices(others, lambda host: f"{host.name}, {host.free_disk_gib} GiB free")
        host = self.item.active.host
        is_silent = bool(host and self.item.active.pool and moving.is_silent(host))
        return {**super().fill(), "hosts": [("", "the one with most room"), *hosts], "is_silent": is_silent}

    def act(self, body: dict[str, Any]) -> Any:
        self.scope.require_cloud_admin()
        return taking.move_or_take_over(volume=self.item, actor=self.scope.actor, **body)

    def done(self) -> str:
        return f"{self.item.name} moves to another host."


class SnapshotVolume(VolumeVerbPage):
    template, form = "storage/volumes/snapshot.html", SnapshotForm
    help = "storage#snapshots"
    fields = {"name": forms.REQUIRED, "labels": forms.LABELS, "protected": forms.FLAG}

    def act(self, body: dict[str, Any]) -> Any:
        return volumes.snapshot(volume=self.item, actor=self.scope.actor, **body)

    def done(self) -> str:
        return f"A snapshot of {self.item.name} is being taken."


class CloneVolume(VolumeVerbPage):
    template, form = "storage/volumes/clone.html", CloneVolumeForm
    help = "storage#clones"
    fields = {"name": forms.REQUIRED, "size_gib": SIZE, "type": forms.TEXT, "labels": forms.LABELS}

    def fill(self) -> dict[str, Any]:
        types = [("", f"as {self.item.name} has it: {self.item.type.name}"), *types_for(self.project)]
        return {**super().fill(), "types": types}

    def act(self, body: dict[str, Any]) -> Any:
        return volumes.clone(volume=self.item, actor=self.scope.actor, **body)

    def done(self) -> str:
        return f"{self.item.name} is being cloned."

    def after_act(self, result: Any) -> str:
        return self.route("volume", result.pk)


class CreateImage(VolumePage, CreateImagePage):
    """An image of what is on it."""

    template = "storage/volumes/create_image.html"
    help = "images#from-a-volume"

    def initial(self) -> dict[str, Any]:
        return {"name": self.item.name}

    def why_not(self) -> str:
        return captures.why_not_volume(self.item)

    def create(self, said: dict[str, Any]) -> Image:
        return captures.of_volume(volume=self.item, actor=self.scope.actor, **said)

    def after(self) -> str:
        return self.route("volume", self.item.pk)


class RevertVolume(VolumeVerbPage):
    template, form = "storage/volumes/revert.html", RevertForm
    help = "storage#snapshots"
    fields = {"snapshot": forms.REQUIRED}

    def initial(self) -> dict[str, Any]:
        return {"snapshot": self.request.GET.get("snapshot", "")}

    def fill(self) -> dict[str, Any]:
        taken = self.item.snapshots.exclude(consistency="").order_by("-created_at")[:MAX_CHOICES]
        held = self.item.attachments.first()
        holder = Use(held.holder_type, str(held.holder_id), held.holder_name) if held else None
        return {**super().fill(), "snapshots": choices(taken), "holder": holder}

    def act(self, body: dict[str, Any]) -> Any:
        return volumes.revert(volume=self.item, actor=self.scope.actor, **body)

    def done(self) -> str:
        return f"{self.item.name} goes back to the snapshot."


class DeleteVolume(VolumePage, DiscardPage):
    help = "storage#deleting"
    kind = "volume"

    def delete(self) -> None:
        trash.discard(volume=self.item, actor=self.scope.actor, cascade=True)

    def leave(self) -> str:
        return self.route("volume", self.item.pk)
