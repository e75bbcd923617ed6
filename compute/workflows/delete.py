"""From anything to nothing."""

from collections.abc import Iterable
from datetime import timedelta

from cloud.costs import kinds
from cloud.hosts.models import Allocation, Host, HostPulse
from cloud.hosts.room import offer_room
from cloud.hosts.silence import reachable_since
from cloud.operations.workflow import DONE, EVERYTHING, Verdict
from compute import moves, networking, volumes
from compute.models import Machine, Power
from compute.workflows.base import InstanceWorkflow

UNREACHABLE_DELETE_SECONDS = 60


class DeleteInstance(InstanceWorkflow):
    """From anything to nothing. Takes over from whatever was under way."""

    kind = "compute.delete"
    first = "destroy"
    patience = timedelta(days=3650)
    persists = True
    supersedes = EVERYTHING

    def destroy(self) -> Verdict:
        """Order every machine that it still has to be removed."""
        moves.abandon(self.instance)
        left = [machine for machine in self._machines() if not machine.has_been_seen(Power.GONE)]
        if not left:
            return self.forget
        self.progress(0, len(left), "machine")
        verdict = self.order(Power.GONE, *left)
        return self.forget if self._stay_away(machine.host for machine in left) else verdict

    def _machines(self) -> list[Machine]:
        return moves.machines_of.rows(self.instance.pk)

    def _stay_away(self, hosts: Iterable[Host]) -> bool:
        age = self.operation.now - self.operation.started_at  # type: ignore[attr-defined]
        heard = HostPulse.objects.filter(host__in=list(hosts), seen_at__gt=reachable_since())
        return age.total_seconds() > UNREACHABLE_DELETE_SECONDS and not heard.exists()

    def forget(self) -> Verdict:
        """Drop the row. On a host that is away the order stays as tombstone, and the allocation until it confirms."""
        instance = self.instance
        kinds.end("instance", instance.pk, instance.project_id)
        networking.release(instance)
        volumes.release(instance)
        gone = [machine.host for machine in self._machines() if machine.has_been_seen(Power.GONE)]
        if gone:
            Allocation.of("instance", instance.pk).filter(host__in=gone).delete()
            offer_room()
        instance.delete()
        return DONE

    def may_cancel(self) -> bool:
        return self.operation.progress_of is None  # set with the first order
