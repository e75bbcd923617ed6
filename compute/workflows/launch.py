"""From a row to a machine."""

from django.db.models.functions import Now

from cloud.hosts.models import Allocation
from cloud.hosts.room import ROOM, offer_room
from cloud.operations.workflow import DONE, Verdict, Wait
from compute import networking, volumes
from compute.models import Power
from compute.placement import choose
from compute.placement.explain import explain
from compute.placement.rules import Wish
from compute.workflows.base import InstanceWorkflow, PowerChange

NO_ROOM_SECONDS = 30  # in case a wake-up is lost


class LaunchInstance(InstanceWorkflow):
    """From a row to a machine with the power that is wanted."""

    kind = "compute.launch"
    first = "place"
    supersedes = PowerChange.supersedes

    def place(self) -> Verdict:
        instance = self.instance
        if instance.host is None and choose.place(instance).host_id is None:
            summary = explain(Wish.of(instance)).summary
            return Wait(NO_ROOM_SECONDS, because=f"waiting for room: {summary}", on=(ROOM,))
        return self.boot

    def boot(self) -> Verdict:
        return volumes.bring(self.instance) or self.until_started(Power(self.instance.wanted_power))

    def is_reached(self) -> bool:
        return self.instance.has_been_seen(self.instance.wanted_power)

    def give_up(self) -> Verdict:
        return self.abandon

    def abandon(self) -> Verdict:
        self.instance.raise_generation()
        return self.clear_up

    def clear_up(self) -> Verdict:
        if self.instance.host is None or self.instance.has_been_seen(Power.GONE):
            return self.release
        return self.order(Power.GONE)

    def release(self) -> Verdict:
        """Keep the row, so that its user reads why; give back everything else."""
        instance = self.instance
        Allocation.of("instance", instance.pk).delete()
        offer_room()
        networking.release(instance)
        volumes.release_unused(instance)
        if instance.machine:
            instance.machine.delete()
            instance.machine = None
        instance.wanted_power = Power.STOPPED
        instance.failed_at = Now()
        instance.failed_reason = f"The launch {self.operation.outcome}: {self.operation.reason}"
        instance.save()
        return DONE
