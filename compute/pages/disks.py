"""Volumes on the Launch form: what it boots from, and one row for each further volume."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.http import QueryDict

from cloud.pages import forms
from cloud.tenancy.models import Project
from network.pages.base import MAX_CHOICES
from storage.models import Volume
from storage.pages.volumes import types_for

# What a select says: a new volume, or "volume/data". Names have no slash.
NEW, NEW_KEPT, VOLUME = "new", "new-kept", "volume/"


@dataclass(frozen=True)
class Row:
    """One volume of the form: what was chosen, and how many GiB a new one is to have."""

    choice: str = ""
    size: str = ""


def choices(project: Project) -> dict[str, Any]:
    """The volumes that a new instance can have, and those that it can boot from."""
    there = Volume.objects.filter(project=project, attachments=None, failed_reason="", trashed_at=None)
    found = there.only("name", "size_gib", "bootable").order_by("name")[:MAX_CHOICES]
    return {
        "disk_choices": _in_words(found),
        "boot_choices": _in_words(one for one in found if one.bootable),
        "type_choices": types_for(project),
    }


def _in_words(volumes: Iterable[Volume]) -> list[tuple[str, str]]:
    return [(f"{VOLUME}{one.name}", f"{one.name} ({one.size_gib} GiB)") for one in volumes]


def rows(given: QueryDict) -> list[Row]:
    """The rows of the form as they were filled in; at first one that says nothing."""
    pairs = zip(given.getlist("disk"), [*given.getlist("disk_size"), *[""] * len(given)], strict=False)
    return [Row(*pair) for pair in pairs if pair[0]] or [Row()]


def read(post: QueryDict) -> dict[str, Any]:
    """The body's `boot_from` and `volumes`; each is left out where nothing is asked for."""
    body: dict[str, Any] = {}
    of = post.get("volume_type", "")
    if boot := _disk(post.get("boot_from", ""), post.get("boot_size", ""), of):
        body["boot_from"] = boot
    if volumes := [_disk(row.choice, row.size, of) for row in rows(post) if row.choice]:
        body["volumes"] = volumes
    return body


def brings_image(body: dict[str, Any]) -> bool:
    """Whether it boots from a volume that is there, and so needs no image."""
    return "volume" in body.get("boot_from", {})


def _disk(choice: str, size: str, of: str) -> dict[str, Any]:
    if choice.startswith(VOLUME):
        return {"volume": choice.removeprefix(VOLUME)}
    if not choice:
        return {}
    given = QueryDict(mutable=True)
    given["size_gib"] = size
    type_ = {"type": of} if of else {}
    return {**forms.whole(given, "size_gib"), **type_, "delete_with_instance": choice != NEW_KEPT}
