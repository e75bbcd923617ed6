"""Files of the store, by their SHA-256: who needs which. Hosts get what they need; what nobody needs goes.

An app that makes things of images says what of them it needs, by registering.
"""

import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import QuerySet

from cloud.hosts.models import Host
from storage.models import Backup, Image, ImageExport, ImageImport, Layer, Volume
from storage.store import StoreAway, store

log = structlog.get_logger(__name__)

SECONDS_KEPT_UNNEEDED = 3600  # it may be about to be written into a row

_users: list[Callable[[Host, str], bool]] = []
_owners: list[Callable[[Collection[str]], Iterable[str]]] = []


def register(needs: Callable[[Host, str], bool]) -> None:
    """An app's say: whether something of it that is placed on this host is made of the file with this SHA-256."""
    _users.append(needs)


def register_owner(owned: Callable[[Collection[str]], Iterable[str]]) -> None:
    """An app's say: which of these files something of it is made of, on whichever host."""
    _owners.append(owned)


def may_fetch(host: Host, sha256: str) -> bool:
    return any(needs(host, sha256) for needs in _users)


def needed(names: Collection[str]) -> set[str]:
    """Which of these files anything is made of."""
    return {name for owned in _owners for name in owned(names)}


def in_rows(rows: QuerySet[Any], field: str, names: Collection[str]) -> set[str]:
    """Which of these are in a list of files, [{"sha256", …}], of some row."""
    return {name for name in names if rows.filter(**{f"{field}__contains": [{"sha256": name}]}).exists()}


def _of_storage(names: Collection[str]) -> set[str]:
    layers = Layer.objects.filter(base__sha256__in=list(names)).values_list("base__sha256", flat=True)
    in_work = ImageExport.objects.filter(status=ImageExport.Status.MAKING)
    lists = (
        (Image.objects.all(), "files"),
        (Image.objects.all(), "source__boot_files"),
        (ImageImport.objects.all(), "files"),
        (ImageExport.objects.all(), "files"),
        (in_work, "sources"),
        (Volume.objects.all(), "boot_files"),
        (Backup.objects.all(), "boot_files"),
    )
    return set(layers).union(*(in_rows(rows, field, names) for rows, field in lists))


register_owner(_of_storage)


def lock(sha256: str) -> None:
    """Nobody else takes this file into a row, or out of the store, until this transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = '30s'")  # a bucket may have to be asked
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"file:{sha256}"])


def let_go(*names: str) -> None:
    """Once this transaction has committed, remove what nobody needs any more of these files."""
    transaction.on_commit(lambda: _try_to_remove(names), robust=True)


def _try_to_remove(names: Iterable[str]) -> None:
    """What a store that is away cannot remove is left to `sweep`."""
    try:
        _remove_unneeded(names)
    except StoreAway as away:
        log.warning("store.not_removed", problem=str(away))


def _remove_unneeded(names: Iterable[str]) -> int:
    removed = 0
    for name in names:
        with transaction.atomic():
            lock(name)
            if not needed([name]):
                store().remove(name)
                log.info("store.removed", sha256=name)
                removed += 1
    return removed


def unneeded() -> list[str]:
    """Files of the store that no row owns, and that did not just come."""
    old = time.time() - SECONDS_KEPT_UNNEEDED
    there = {name for name, came in store().names() if came < old}
    return sorted(there - needed(there)) if there else []


def sweep() -> int:
    """Remove what `unneeded` finds. How many files that were."""
    return _remove_unneeded(unneeded())
