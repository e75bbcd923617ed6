"""What storage does by the clock."""

import structlog
from celery import shared_task
from django.db import transaction

from cloud.events.services import SYSTEM
from storage import backing_up, files, uploads, verifying
from storage.services import backups, exports, images, policies

log = structlog.get_logger(__name__)


@shared_task(name="storage.tidy")
def tidy() -> None:
    """Give up images whose content nobody sends, end old exports, and remove files that no row owns."""
    for upload in uploads.expired():
        with transaction.atomic():
            images.expire(image=upload.image, actor=SYSTEM)
    if ended := exports.expire():
        log.info("storage.exports_ended", exports=ended)
    removed = uploads.sweep() + files.sweep()
    if removed:
        log.info("storage.tidied", files=removed)


@shared_task(name="storage.tidy_backups")
def tidy_backups() -> None:
    """Delete backups that failed or that no policy keeps, remove what no backup needs, and read some blocks back."""
    if ended := backups.expire() + policies.prune():
        log.info("storage.backups_ended", backups=ended)
    removed = backing_up.prune_all() + backing_up.sweep()
    if removed:
        log.info("storage.backups_tidied", blocks=removed)
    verifying.verify()


@shared_task(name="storage.back_up")
def back_up() -> None:
    """Begin the backups whose time has come."""
    if begun := policies.run_due():
        log.info("storage.backups_begun", backups=begun)
