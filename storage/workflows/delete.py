"""From anything to nothing."""

from datetime import timedelta

from django.db.models.functions import Now

from cloud.hosts.hosted import GONE
from cloud.hosts.models import HostPulse
from cloud.hosts.silence import reachable_since
from cloud.operations.workflow import DONE, EVERYTHING, Verdict, Wait
from storage import hosting, moving
from storage.models import Layer, Snapshot, VolumeOnHost
from storage.trees import Tree
from storage.workflows.base import VolumeWorkflow


class DeleteVolume(VolumeWorkflow):
    """Its host unlinks the files before the row goes. Layers that others stand on stay.

    Unlike a delete of an instance it waits for a host that is away: an order without its row could not say which layers
    others need.
    """

    kind = "storage.delete_volume"
    first = "remove_files"
    patience = timedelta(days=3650)
    persists = True
    supersedes = EVERYTHING

    def remove_files(self) -> Verdict:
        # Nothing is attached to it, so nobody writes it: what waits for that may go on.
        Layer.objects.filter(pk=self.volume.active_id, sealed_at=None).update(sealed_at=Now())
        if transfer := moving.led_by(hosting.VOLUME, self.volume.pk):  # it was to move
            moving.give_up(transfer)
        if wait := self._until_elsewhere_gone():
            return wait
        row = hosting.row_of(self.volume)
        if row is None or row.has_been_seen(GONE):
            return self.forget
        if self.volume.active.taken_from and (wait := self.until_true()):
            return wait  # a host removes only what it has taken over
        assert row.host is not None
        self.progress(0, 1, "host")
        hosting.order(row, "ensure_gone")
        return Wait(hosting.LOOK_AGAIN_SECONDS, because=f"waiting for {_of_whom(row)} to remove its files")

    def _until_elsewhere_gone(self) -> Wait | None:
        """What it has on another host than its own: it moves, or has moved."""
        rows = VolumeOnHost.objects.select_for_update(of=("self",)).select_related("host")
        others = rows.filter(volume=self.volume).exclude(host=self.volume.active.host).order_by("pk")
        elsewhere = [row for row in others if not self._is_forgotten(row)]
        for row in elsewhere:
            if row.wanted:
                hosting.leave(row)
            else:
                hosting.order(row)
        if not elsewhere:
            return None
        self.progress(0, 1, "host")
        words = f"waiting for {elsewhere[0].host} to remove its files, where it was or was to be"
        return Wait(hosting.LOOK_AGAIN_SECONDS, because=words)

    def _is_forgotten(self, row: VolumeOnHost) -> bool:
        """Of one in a shared folder nothing is on the host that it has left, and that host may be gone for good."""
        if row.wanted or not self.volume.active.pool or _is_heard(row):
            return False
        hosting.forget(row)
        return True

    def forget(self) -> Verdict:
        volume, there = self.volume, []
        if row := hosting.row_of(volume):
            assert row.host is not None
            hosting.give_back(volume.pk, row.host)
            there = row.seen_facts.get("layers", [])
            row.delete()
        tree = volume.active.tree
        Snapshot.objects.filter(volume=volume).delete()
        volume.delete()
        Tree(tree).sweep(there)
        return DONE

    def may_cancel(self) -> bool:
        return self.operation.progress_of is None  # set with the first order


def _of_whom(row: VolumeOnHost) -> str:
    assert row.host is not None
    if row.host.lost_at:
        return "another host that reaches where it is (an admin can give it up with its lost host)"
    if _is_heard(row):
        return "the host"
    return "the host, which has not been heard from (an admin can declare it lost),"


def _is_heard(row: VolumeOnHost) -> bool:
    return HostPulse.objects.filter(host=row.host, seen_at__gt=reachable_since()).exists()
