"""Where a host gets an image file: from a peer, a host that has it already, or from the store.

It is asked by the host at the moment of the download, so it knows who has the file by then. When many hosts want the
same new file, a few begin at the store and the others wait until these have it, each of which serves a few more. What
is known is a matter of speed alone: hosts check what they get, and go to the store when anything is wrong.
"""

import random
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, F, Q, QuerySet
from django.db.models.functions import Now
from django.utils.crypto import salted_hmac

from cloud.hosts.models import Host
from cloud.hosts.silence import reachable_since
from cloud.operations.troubles import MAX_SHOWN, Case, Looked
from storage import tickets
from storage.models import CachedFile

TICKET_SECONDS = 600
SIGN_OF_LIFE = timedelta(seconds=15)  # a fetch of which nothing was heard for so long has ended
LONGEST_WAIT = timedelta(seconds=300)
JUST_CAME = timedelta(seconds=60)  # a heartbeat may have been written before
AVOIDED_AFTER_SILENCE = timedelta(seconds=60)
AVOIDED_AFTER_WRONG_BYTES = timedelta(days=1)
SHOWN = timedelta(hours=1)
SECONDS_TO_WAIT = (1.0, 2.0)
MAX_WORDS = 200

State = CachedFile.State


def key_of(host: Host) -> bytes:
    """The key of the tickets for what this host serves. It is in no database; the host is told it when it asks."""
    return salted_hmac("storage.peers", f"{host.pk}:{host.token_digest}", algorithm="sha256").digest()


def doubted(host: Host) -> list[str]:
    """Files that others say this host has sent with other bytes: it looks at its own."""
    return list(_wrong().filter(host=host, state=State.HERE).values_list("sha256", flat=True))


def _wrong() -> "QuerySet[CachedFile]":
    return CachedFile.objects.filter(is_wrong=True, problem_at__gte=Now() - AVOIDED_AFTER_WRONG_BYTES)


def failing(*, is_wrong: bool) -> Looked:
    """Hosts from which others did not get what they were sent there for, or not the right bytes; each once."""
    rows = _wrong() if is_wrong else CachedFile.objects.filter(is_wrong=False, problem_at__gte=Now() - SHOWN)
    latest = rows.order_by("host_id", "-problem_at").distinct("host_id").select_related("host")
    found = [
        Case("host", str(row.host_id), row.host.name, f"{row.sha256[:12]}…: {row.problem}", row.problem_at)
        for row in latest
    ]
    return len(found), found[:MAX_SHOWN]


@transaction.atomic
def turn(
    host: Host, sha256: str, *, size: int, failed: Sequence[Mapping[str, Any]] = (), tried: Sequence[UUID] = (),
    peers: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Where this host goes for a file that it may have: {"peer": {…}}, {"wait": seconds, and then ask again}, or {}: to
    the store. `failed`: the peers that it has tried; `peers`: whether it would go to another one."""
    _take_turns(sha256)
    for failure in failed:
        _note(host, sha256, **failure)
    row, _ = CachedFile.objects.get_or_create(host=host, sha256=sha256, defaults={"size": size, "state": State.WAITING})
    if row.state == State.HERE or not _waits_still(row):
        CachedFile.objects.filter(pk=row.pk).update(since=Now(), received=0)
        row.refresh_from_db()
    under_way = CachedFile.objects.filter(state=State.FETCHING, heard_at__gte=Now() - SIGN_OF_LIFE).exclude(pk=row.pk)
    serving = {one.pk: one for one in _serving(host)} if peers else {}
    free, busy = _peers(sha256, serving, under_way, tried={*tried, *(one["peer"] for one in failed)})
    if free:
        peer = serving[min(free, key=lambda pk: (free[pk], random.random()))]  # noqa: S311
        _set(row, State.FETCHING, peer)
        return {"peer": _told(peer, sha256, host)}
    coming = under_way.filter(sha256=sha256, host__in=serving)
    at_the_store = under_way.filter(sha256=sha256, came_from=None).count()
    is_full = 0 < settings.IMAGE_STORE_STARTS <= at_the_store
    if is_full and _may_wait(row) and (busy or coming.exists()):
        _set(row, State.WAITING, None)
        return {"wait": round(random.uniform(*SECONDS_TO_WAIT), 2)}  # noqa: S311
    _set(row, State.FETCHING, None)
    return {}


def _take_turns(sha256: str) -> None:
    """Who asks for the same file is answered one by one, until each transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"turn:{sha256}"])


def _waits_still(row: CachedFile) -> bool:
    return CachedFile.objects.filter(pk=row.pk, heard_at__gte=Now() - SIGN_OF_LIFE).exists()


def _may_wait(row: CachedFile) -> bool:
    return CachedFile.objects.filter(pk=row.pk, since__gte=Now() - LONGEST_WAIT).exists()


def _set(row: CachedFile, state: str, peer: Host | None) -> None:
    CachedFile.objects.filter(pk=row.pk).update(
        state=state, came_from=peer, heard_at=Now(), problem="", problem_at=None, is_wrong=False
    )


def _serving(host: Host) -> "QuerySet[Host]":
    """Other hosts that are heard from and serve their caches, and that were not in vain asked just now."""
    silent = CachedFile.objects.filter(is_wrong=False, problem_at__gte=Now() - AVOIDED_AFTER_SILENCE)
    return (
        Host.objects.filter(
            capabilities__image_cache__serves__address__isnull=False, pulse__seen_at__gte=reachable_since(),
            quarantined="",
        )
        .exclude(pk=host.pk)
        .exclude(pk__in=silent.values("host"))
        .annotate(serves=F("capabilities__image_cache__serves"))
        .defer("capabilities")
    )  # fmt: skip


def _peers(
    sha256: str, serving: Mapping[UUID, Host], under_way: "QuerySet[CachedFile]", tried: Collection[UUID]
) -> tuple[dict[UUID, int], bool]:
    """Those that have the file and serve fewer than they can at once, with how many they serve; and whether there are
    others that serve as many as they can."""
    having = CachedFile.objects.filter(sha256=sha256, state=State.HERE, host__in=serving).exclude(
        Q(host__in=tried) | Q(is_wrong=True, problem_at__gte=Now() - AVOIDED_AFTER_WRONG_BYTES)
    )
    load = dict(
        under_way.filter(came_from__in=serving)
        .values_list("came_from")
        .annotate(Count("pk"))
        .values_list("came_from", "pk__count")
    )
    all_of_them = {pk: load.get(pk, 0) for pk in having.values_list("host", flat=True)}
    free = {pk: n for pk, n in all_of_them.items() if n < serving[pk].serves["downloads"]}  # type: ignore[attr-defined]
    return free, len(all_of_them) > len(free)


def _told(peer: Host, sha256: str, host: Host) -> dict[str, str]:
    serves = peer.serves  # type: ignore[attr-defined]
    ticket = tickets.write(key_of(peer), sha256, str(host.pk), int(time.time()) + TICKET_SECONDS)
    return {
        "id": str(peer.pk), "name": peer.name, "address": serves["address"], "fingerprint": serves["fingerprint"],
        "ticket": ticket,
    }  # fmt: skip


def _note(host: Host, sha256: str, *, peer: UUID, problem: str, wrong: bool) -> None:
    """The peer that was named to this host did not serve it. One that was merely busy has no problem."""
    if problem and CachedFile.objects.filter(host=host, sha256=sha256, came_from=peer).exists():
        words = f"{host.name}: {problem}"[:MAX_WORDS]
        rows = CachedFile.objects.filter(host=peer, sha256=sha256, state=State.HERE, is_wrong=False)
        rows.update(problem=words, problem_at=Now(), is_wrong=wrong)


def note_progress(host: Host, sha256: str, received: int) -> None:
    """A sign of life of a host that fetches a file."""
    CachedFile.objects.filter(host=host, sha256=sha256, state=State.FETCHING).update(heard_at=Now(), received=received)


@transaction.atomic
def note_done(host: Host, sha256: str, *, size: int, peer: UUID | None) -> None:
    """A host has a file in its cache now; `peer`: who sent it the last of it. Others may come for it at once."""
    sender = Host.objects.filter(pk=peer).first() if peer else None
    CachedFile.objects.update_or_create(
        host=host, sha256=sha256,
        defaults={
            "size": size, "state": State.HERE, "came_from": sender, "since": Now(), "heard_at": Now(),
            "problem": "", "problem_at": None, "is_wrong": False,
        },
    )  # fmt: skip
    if sender:
        CachedFile.objects.filter(host=sender, is_wrong=False).exclude(problem_at=None).update(
            problem="", problem_at=None
        )


def noticed(host: Host, capabilities: Mapping[str, Any]) -> None:
    """A host's heartbeat tells of another cache than the one before."""
    held: dict[str, int] | None = capabilities.get("image_cache", {}).get("held")
    if held is None:
        return  # an agent of before
    rows = CachedFile.objects.filter(host=host)
    rows.exclude(sha256__in=held).exclude(heard_at__gte=Now() - JUST_CAME).delete()
    known = set(rows.values_list("sha256", flat=True))
    new = [CachedFile(host=host, sha256=name, size=size, state=State.HERE) for name, size in held.items()]
    CachedFile.objects.bulk_create([one for one in new if one.sha256 not in known], ignore_conflicts=True)
    rows.filter(sha256__in=held).exclude(state=State.HERE).update(state=State.HERE, since=Now())


def forget() -> None:
    """Those that waited or fetched, and were not heard of any more."""
    CachedFile.objects.exclude(state=State.HERE).filter(heard_at__lt=Now() - SHOWN).delete()
