"""Snapshots: what was on a volume at one moment. They are taken by `volumes.snapshot`."""

from collections.abc import Mapping
from typing import Any

from cloud.changes import change
from cloud.events.services import Actor, record
from cloud.operations import engine
from storage import hosting
from storage.models import Snapshot, Volume
from storage.services.volumes import require_no_image_in_work, require_unprotected


def update(*, snapshot: Snapshot, actor: Actor, changes: Mapping[str, Any]) -> Snapshot:
    """Change its name, labels or protection."""
    snapshot, before = change(snapshot, changes)
    record("storage.snapshot.update", snapshot, actor=actor, before=before, after=changes)
    return snapshot


def delete(*, snapshot: Snapshot, actor: Actor) -> None:
    """Forget it; volumes that were made from it keep what they have.

    Raises Protected, and Busy while it is taken or moves.
    """
    live = engine.lock("volume", snapshot.volume_id)
    if live and (live.parameters.get("snapshot") == str(snapshot.pk) or "transfer" in live.parameters):
        raise engine.Busy.with_operation(live, str(snapshot.volume))
    volume = Volume.objects.select_for_update(of=("self",)).select_related("active__host").get(pk=snapshot.volume_id)
    require_unprotected(snapshot)
    require_no_image_in_work(snapshot)
    before = {"name": snapshot.name, "volume": volume.name}
    record("storage.snapshot.delete", snapshot, actor=actor, before=before)
    snapshot.delete()
    hosting.changed(volume)
