"""Pools, places that several hosts reach: shared folders, pools of Ceph clusters, and what storage hosts serve. What
hosts say of them, and how full they may get.

A volume in a pool still has one host at a time, which does all the work with its files or images. It changes hosts
without copying (docs/decisions/0050, docs/decisions/0055), or never, where that is a storage host
(docs/decisions/0057).
"""

from dataclasses import dataclass
from statistics import median_low, mode
from uuid import UUID

from django.db.models import QuerySet, Sum

from cloud.hosts.models import Host
from cloud.problems import Fault, Invalid
from storage.hosting import NoRoom
from storage.models import Layer, Volume, VolumeType
from storage.models.types import PoolKind

MAX_GIB = 1 << 30  # of a pool: more than that is no measurement
TOLERANCE = 0.1  # hosts measure at different moments; in Ceph it is less as others use more


@dataclass(frozen=True)
class Pool:
    """As hosts say that reach it. `kind`: a PoolKind; `names`: of the folders where they have it, or its key."""

    id: UUID
    kind: str
    names: tuple[str, ...]
    total_gib: int
    hosts: tuple[str, ...]

    def __str__(self) -> str:
        if self.kind == PoolKind.NBD:
            return f"Served by {', '.join(self.hosts)} at {', '.join(self.names)} ({self.total_gib} GiB)"
        where = "Ceph: " if self.kind == PoolKind.CEPH else ""
        return f"{where}{' or '.join(self.names)} ({self.total_gib} GiB, on {', '.join(self.hosts)})"


def _hosts() -> "QuerySet[Host]":
    """A host that is lost says nothing any more."""
    return Host.objects.filter(lost_at=None)


def known() -> list[Pool]:
    """All that a host reaches which is not lost. What a host says alone against others is not believed: of its kind
    what most say, of its room the middle of what they say, and the smaller one of two."""
    said: dict[UUID, list[tuple[str, str, str, int]]] = {}
    for host, pools in _hosts().order_by("name").values_list("name", "capabilities__pools"):
        for key, facts in (pools or {}).items():
            kind = facts.get("kind", PoolKind.FOLDER)
            said.setdefault(UUID(key), []).append((host, kind, facts["name"], facts["total_gib"]))
    found = []
    for key, every in said.items():
        kind = mode(kind for _, kind, *_ in every)
        of = [(host, name, gib) for host, own, name, gib in every if own == kind]
        names, rooms = tuple(sorted({name for _, name, _ in of})), [min(gib, MAX_GIB) for *_, gib in of]
        found.append(Pool(key, kind, names, median_low(rooms), tuple(host for host, *_ in of)))
    return found


def doubtful() -> list[tuple[str, str]]:
    """Hosts that say of a pool what others do not, with that in words."""
    told, found = {pool.id: pool for pool in known()}, []
    for host, pools in _hosts().order_by("name").values_list("name", "capabilities__pools"):
        for key, facts in (pools or {}).items():
            pool, kind, gib = told.get(UUID(key)), facts.get("kind", PoolKind.FOLDER), facts["total_gib"]
            if pool is None:
                continue  # it has said so just now
            if kind != pool.kind:
                found.append((host, f"it says that the pool {key} is {kind}, and others that it is {pool.kind}"))
            elif abs(gib - pool.total_gib) > max(TOLERANCE * pool.total_gib, 1):
                words = f"it says that the pool {key} has {gib} GiB, and others that it has {pool.total_gib}"
                found.append((host, words))
    return found


def kind_of(pool: UUID | None) -> str:
    """Its PoolKind; "" for the disk of one host. Raises Invalid for one that no host reaches."""
    if pool is None:
        return ""
    if found := next((one for one in known() if one.id == pool), None):
        return found.kind
    words = f"No host has the shared folder or Ceph pool {pool}, or serves volumes by that name."
    words += " A host's capabilities list those that it has."
    raise Invalid(words, errors=[Fault("/pool", words)])


def is_lost(layer: Layer) -> bool:
    """Whether what is in a layer is lost with its host: on the disk of that, or in a pool that no other host reaches,
    which an admin has given up."""
    host = layer.host
    if host is None or host.lost_at is None:
        return False
    return layer.pool is None or (host.leaves_behind and not is_reached(layer.pool))


def is_reached(pool: UUID, *, but: Host | None = None) -> bool:
    """Whether a host that is not lost has said that it reaches a pool; `but`: another one than this."""
    return _hosts().filter(capabilities__pools__has_key=str(pool)).exclude(pk__in=[but.pk] if but else []).exists()


def storage_host(volume_type: VolumeType) -> Host:
    """That serves the volumes of a type. Raises NoRoom unless the host for which the type was made says that it does,
    and no other.

    Of two, one is what the other was before it joined anew, or lies: neither gets data that may be lost there.
    """
    match _claimants(volume_type.pool):
        case [only] if only.pk == volume_type.served_by:
            return only
        case [other]:
            words = (
                f"{other} says that it is the storage host of volumes of the type {volume_type}, which was made for "
            )
            words += "another one: bind the type to it if it is right."
        case []:
            words = f"No storage host serves volumes of the type {volume_type} now."
        case several:
            words = f"{_both(several)} the storage host of volumes of the type {volume_type}."
    raise NoRoom(f"{words} An admin of the cloud can look at it.")


def who_serves(pool: UUID) -> UUID:
    """The id of the storage host that says it has a pool. Raises Invalid when several do."""
    found = _claimants(pool)
    if len(found) == 1:
        return found[0].pk
    words = f"{_both(found)} the storage host of {pool}: declare the wrong one lost, or remove it." if found else ""
    raise Invalid(words or "No storage host serves this.", errors=[Fault("/pool", words)])


def _claimants(pool: UUID | None) -> list[Host]:
    """The first two hosts that say that they serve it."""
    return list(_hosts().filter(**{f"capabilities__pools__{pool}__kind": PoolKind.NBD}).order_by("name")[:2])


def _both(hosts: list[Host]) -> str:
    return f"{' and '.join(map(str, hosts))} say both that they are"


def require_room(volume_type: VolumeType, more_gib: int) -> None:
    """That the volumes of a type's pool may become so much larger. Nobody else takes of it meanwhile. Raises NoRoom."""
    pool, in_ceph = volume_type.shared_pool, volume_type.in_ceph
    if pool is None:
        return
    list(VolumeType.objects.select_for_update().filter(pool=pool).order_by("pk"))
    used = Volume.objects.filter(active__pool=pool).aggregate(gib=Sum("size_gib"))["gib"] or 0
    total = next((one.total_gib for one in known() if one.id == pool), None)
    if total is None:
        raise NoRoom("No host reaches the shared folder now, so its room is not known. Try again later.")
    if used + more_gib > total:
        place = "Ceph pool" if in_ceph else "shared folder"
        words = f"The {place} has {total} GiB, of which {used} are taken; {more_gib} more do not fit."
        raise NoRoom(f"{words} Delete what is no longer needed, or ask an admin of the cloud.")
