"""Folders that several hosts share: what hosts say of them, and how full they may get.

A volume in a pool still has one host at a time, which does all the work with its files. It changes hosts without
copying (docs/decisions/0050).
"""

from dataclasses import dataclass
from uuid import UUID

from django.db.models import Sum

from cloud.hosts.models import Host
from cloud.problems import Fault, Invalid
from storage.hosting import NoRoom
from storage.models import Volume, VolumeType


@dataclass(frozen=True)
class Pool:
    """As hosts say that have it mounted. `names`: of the folders where they have it."""

    id: UUID
    names: tuple[str, ...]
    total_gib: int
    hosts: tuple[str, ...]

    def __str__(self) -> str:
        return f"{' or '.join(self.names)} ({self.total_gib} GiB, on {', '.join(self.hosts)})"


def known() -> list[Pool]:
    """All that a host has mounted."""
    said: dict[UUID, list[tuple[str, str, int]]] = {}
    for host, pools in Host.objects.order_by("name").values_list("name", "capabilities__pools"):
        for key, facts in (pools or {}).items():
            said.setdefault(UUID(key), []).append((host, facts["name"], facts["total_gib"]))
    return [
        Pool(
            id=key,
            names=tuple(sorted({name for _, name, _ in of})),
            total_gib=max(gib for *_, gib in of),
            hosts=tuple(host for host, *_ in of),
        )
        for key, of in said.items()
    ]


def require_known(pool: UUID | None) -> None:
    """Raises Invalid unless a host has it mounted."""
    if pool is None or any(one.id == pool for one in known()):
        return
    words = f"No host has the shared folder {pool} mounted. A host's capabilities list those that it has."
    raise Invalid(words, errors=[Fault("/pool", words)])


def require_room(pool: UUID | None, more_gib: int) -> None:
    """That the volumes of a pool may become larger by so much. Nobody else takes of it meanwhile. Raises NoRoom."""
    if pool is None:
        return
    list(VolumeType.objects.select_for_update().filter(pool=pool).order_by("pk"))
    used = Volume.objects.filter(active__pool=pool).aggregate(gib=Sum("size_gib"))["gib"] or 0
    total = next((one.total_gib for one in known() if one.id == pool), None)
    if total is None:
        raise NoRoom("No host reaches the shared folder now, so its room is not known. Try again later.")
    if used + more_gib > total:
        words = f"The shared folder has {total} GiB, of which {used} are taken; {more_gib} more do not fit."
        raise NoRoom(f"{words} Delete what is no longer needed, or ask an admin of the cloud.")
