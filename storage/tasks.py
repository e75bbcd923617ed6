"""What storage does by the clock."""

import structlog
from celery import shared_task
from django.db import transaction

from cloud.events.services import SYSTEM
from storage import files, uploads
from storage.services import exports, images

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
