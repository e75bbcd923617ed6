"""From anything to nothing."""

from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Now

from cloud.hosts.models import Allocation, HostPulse
from cloud.hosts.room import offer_room
from cloud.operations.workflow import DONE, EVERYTHING, Verdict
from compute import costs
from compute.models import Power
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
        instance = self.instance
        if instance.host is None or instance.has_been_seen(Power.GONE):
            return self.forget
        self.progress(0, 1, "machine")
        verdict = self.order(Power.GONE)
        return self.forget if self._host_stays_away() else verdict

    def _host_stays_away(self) -> bool:
        age = self.operation.now - self.operation.started_at  # type: ignore[attr-defined]
        silence = timedelta(seconds=settings.UNREACHABLE_AFTER_SECONDS)
        return age.total_seconds() > UNREACHABLE_DELETE_SECONDS and not (
            HostPulse.objects.filter(host=self.instance.host, seen_at__gt=Now() - silence).exists()
        )

    def forget(self) -> Verdict:
        """Drop the row. On a host that is away the order stays as tombstone, and the allocation until it confirms."""
        instance = self.instance
        costs.close(instance)
        if instance.host is None or instance.has_been_seen(Power.GONE):
            Allocation.of("instance", instance.pk).delete()
            offer_room()
        instance.delete()
        return DONE

    def may_cancel(self) -> bool:
        return self.operation.progress_of is None  # set with the first order
