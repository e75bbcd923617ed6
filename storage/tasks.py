"""What storage does by the clock."""

import structlog
from celery import shared_task
from django.conf import settings
from django.db import transaction

from cloud.events.services import SYSTEM
from storage import backing_up, files, peers, uploads, verifying
from storage.services import backups, drills, exports, flattening, images, policies
from storage.shipping import Shipping
from storage.store import bucket, is_bucket, store

log = structlog.get_logger(__name__)


@shared_task(name="storage.tidy")
def tidy() -> None:
    """Give up images whose content nobody sends, end old exports, and remove files that no row owns."""
    for upload in uploads.expired():
        with transaction.atomic():
            images.expire(image=upload.image, actor=SYSTEM)
    if ended := exports.expire():
        log.info("storage.exports_ended", exports=ended)
    peers.forget()
    removed = uploads.sweep() + files.sweep()
    if removed:
        log.info("storage.tidied", files=removed)
    if is_bucket(settings.IMAGE_STORE):
        bucket(settings.IMAGE_STORE).abort_unfinished()


@shared_task(name="storage.tend_buckets")
def tend_buckets() -> None:
    """Bring to the bucket of images what waits for it, and look whether the buckets serve. A failure is on the health
    page, with what to do.
    """
    images = store()
    if isinstance(images, Shipping) and (shipped := images.ship()):
        log.info("storage.shipped", files=shipped)
    for place in (settings.IMAGE_STORE, settings.BACKUP_STORE):
        if is_bucket(place):
            bucket(place).check()


@shared_task(name="storage.tidy_backups")
def tidy_backups() -> None:
    """Delete backups that failed or that no policy keeps, remove what no backup needs, begin restore drills, and read
    some blocks back."""
    if ended := backups.expire() + policies.prune():
        log.info("storage.backups_ended", backups=ended)
    removed = backing_up.prune_all() + backing_up.sweep()
    if removed:
        log.info("storage.backups_tidied", blocks=removed)
    if begun := drills.run_due():
        log.info("storage.drills_begun", drills=begun)
    verifying.verify()


@shared_task(name="storage.flatten")
def flatten() -> None:
    """Merge layers of volumes that stand on many."""
    if begun := flattening.run_due():
        log.info("storage.flattening_begun", volumes=begun)


@shared_task(name="storage.back_up")
def back_up() -> None:
    """Begin the backups whose time has come."""
    if begun := policies.run_due():
        log.info("storage.backups_begun", backups=begun)
