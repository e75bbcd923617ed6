"""What volumes cost: their size at the price that their type had when they got it, from the beginning and wherever they
are. What failed, is in the trash or is being deleted costs nothing."""

from django.db.models.functions import Now

from cloud.costs import kinds
from storage.models import Volume

kinds.register(
    "volume",
    """SELECT v.id, v.name, v.size_gib || ' GiB ' || t.name AS size, v.labels,
        v.size_gib * v.price_per_gib_hour AS price_per_hour, v.priced_since AS began_at
    FROM storage_volume v JOIN storage_volumetype t ON t.id = v.type_id
    WHERE v.project_id = %(project)s AND v.trashed_at IS NULL AND v.failed_reason = '' AND NOT EXISTS (
        SELECT FROM operations_operation o WHERE o.subject_type = 'volume' AND o.subject_id = v.id
            AND o.kind = 'storage.delete_volume' AND o.finished_at IS NULL)""",
)


def settle(volume: Volume) -> None:
    """It is about to cost something else, or nothing: keep what it has cost until now, and count anew."""
    kinds.end("volume", volume.pk, volume.project_id)
    Volume.objects.filter(pk=volume.pk).update(priced_since=Now())
