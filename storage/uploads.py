"""Files that owners of images are sending: how long they stay, and that they go."""

import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from storage.models import Image, Upload
from storage.models.images import GIB
from storage.store import incoming

DAYS_UNFINISHED = 2
SECONDS_UNOWNED = 3600.0  # it may be about to be written into a row


def begin(image: Image, *, size: int | None, sha256: str) -> Upload:
    expires = Now() + timedelta(days=DAYS_UNFINISHED)
    return Upload.objects.create(image=image, size=size, sha256=sha256, expires_at=expires)


def prolong(upload: Upload) -> None:
    """Something of it came: its owner has not given it up."""
    upload.expires_at = timezone.now() + timedelta(days=DAYS_UNFINISHED)
    upload.save(update_fields=["expires_at"])


def drop(uploads: Iterable[Upload]) -> None:
    """Forget them, and their files once this transaction has committed."""
    paths = [upload.path for upload in uploads]
    Upload.objects.filter(pk__in=[path.name for path in paths]).delete()
    transaction.on_commit(lambda: _unlink(paths), robust=True)


def expired() -> list[Upload]:
    """Those that nobody has finished in time."""
    return list(Upload.objects.filter(completed_at=None, expires_at__lt=Now()).select_related("image"))


def unowned() -> list[Path]:
    """Files that no row owns, and that nobody has written to lately."""
    folder = incoming()
    old = time.time() - SECONDS_UNOWNED
    there = [path for path in folder.iterdir() if path.is_file() and _age(path) < old] if folder.is_dir() else []
    known = {str(key) for key in Upload.objects.values_list("pk", flat=True)}
    return [path for path in there if path.name not in known]


def sweep() -> int:
    """Remove what `unowned` finds. How many files that were."""
    return _unlink(unowned())


def limit(upload: Upload, left_gib: int | None) -> int:
    """Bytes that it may have in all; `left_gib` is what is left in its project's quota beside it."""
    most = settings.IMAGE_MAX_GIB * GIB
    most = most if upload.size is None else min(upload.size, most)  # which may be told only with a piece
    return most if left_gib is None else min(most, left_gib * GIB)


def _unlink(paths: list[Path]) -> int:
    for path in paths:
        path.unlink(missing_ok=True)
    return len(paths)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()
