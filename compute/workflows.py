"""What the cloud can do with an instance: one class a verb, one method a step.

Orders say the whole wish, so there is no undo: giving up a launch clears up with the same steps as a delete, giving up
a change of power goes back to the power before it. `take_back` raises the generation first, so that whatever is in
flight for the abandoned wish dies at the host.
"""

from datetime import timedelta
from functools import cached_property
from typing import ClassVar

from django.conf import settings
from django.db.models import QuerySet
from django.db.models.functions import Now

from cloud.hosts import orders
from cloud.hosts.models import HostPulse
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.operations.workflow import DONE, Refused, Verdict, Wait, Workflow
from compute import costs, explaining, placement, waiting
from compute.generations import raise_generation
from compute.models import Allocation, Instance, Power

LOOK_AGAIN_SECONDS = 20
NO_ROOM_SECONDS = 30  # should nobody tell (`waiting`)
UNREACHABLE_DELETE_SECONDS = 60
CLONES_SECONDS = 2  # should a clone not have told
ORDERS = {
    Power.RUNNING: "ensure_running",
    Power.PAUSED: "ensure_paused",
    Power.SUSPENDED: "ensure_suspended",
    Power.STOPPED: "ensure_stopped",
}
PLAIN_WORDS = {
    "ensure_running": "waiting for the host to start it",
    "ensure_paused": "waiting for the host to pause it",
    "ensure_suspended": "waiting for the host to write its memory down",
    "ensure_stopped": "waiting for the host to stop it",
    "ensure_gone": "waiting for the host to remove it",
}


class InstanceWorkflow(Workflow):
    """Steps that several verbs share. The instance is locked for the whole step."""

    subject_type = "instance"
    patience = timedelta(minutes=10)

    @cached_property
    def instance(self) -> Instance:
        return (
            Instance.objects.select_for_update(of=("self",))
            .select_related("image", "host")
            .get(pk=self.operation.subject_id)
        )

    def order(self, verb: str) -> Verdict:
        instance = self.instance
        assert instance.host is not None
        orders.post(instance.host, "instance", instance.pk, verb, instance.generation)
        return Wait(LOOK_AGAIN_SECONDS, because=PLAIN_WORDS[verb])

    def until_seen(self, power: Power, *, again: bool = False) -> Verdict:
        """Done once the host has seen that power of this generation; order it until then, or `again`."""
        if self.instance.has_been_seen(power) and not again:
            return DONE
        if self.instance.has_been_seen(Power.BROKEN) and not self.operation.outcome:
            raise Refused(self.instance.seen_problem or "the host could not do it")
        return self.order(ORDERS[power])


class PowerChange(InstanceWorkflow):
    """A change of power that can be taken back: giving up leads to the power that was there before."""

    reaches: ClassVar[Power]
    supersedes = frozenset(
        f"compute.{verb}"
        for verb in ("launch", "launch_clone", "start", "stop", "reboot", "pause", "suspend", "resume")
    )

    def is_reached(self) -> bool:
        return self.instance.has_been_seen(self.reaches)

    def give_up(self) -> Verdict:
        return self.take_back

    def take_back(self) -> Verdict:
        """Wish again for the power that was there before; what was under way for the other wish dies."""
        instance = self.instance
        instance.wanted_power = instance.power_before
        instance.reboot_nonce = None
        instance.save(update_fields=["wanted_power", "reboot_nonce"])
        raise_generation(instance)
        return self.restore

    def restore(self) -> Verdict:
        """Wait until what was taken back is true again, or is known to be broken."""
        if self.instance.host is None or self.instance.has_been_seen(Power.BROKEN):
            return DONE
        return self.until_seen(Power(self.instance.wanted_power))


class LaunchInstance(InstanceWorkflow):
    """From a row to a machine with the power that is wanted."""

    kind = "compute.launch"
    first = "place"
    supersedes = PowerChange.supersedes

    def place(self) -> Verdict:
        instance = self.instance
        if instance.host is None and placement.place(instance).host_id is None:
            summary = explaining.explain(placement.Wish.of(instance)).summary
            return Wait(NO_ROOM_SECONDS, because=f"waiting for room: {summary}")
        return self.boot

    def boot(self) -> Verdict:
        if self.instance.wanted_power == Power.STOPPED:
            return self.until_seen(Power.STOPPED)
        return self.until_seen(Power.RUNNING)

    def is_reached(self) -> bool:
        return self.instance.has_been_seen(self.instance.wanted_power)

    def give_up(self) -> Verdict:
        return self.abandon

    def abandon(self) -> Verdict:
        raise_generation(self.instance)
        return self.clear_up

    def clear_up(self) -> Verdict:
        if self.instance.host is None or self.instance.has_been_seen(Power.GONE):
            return self.release
        return self.order("ensure_gone")

    def release(self) -> Verdict:
        """Keep the row, so that its user reads why; give back everything else."""
        instance = self.instance
        Allocation.objects.filter(pk=instance.pk).delete()
        waiting.offer_room()
        instance.host = None
        instance.hypervisor = ""
        instance.wanted_power = Power.STOPPED
        instance.seen_power = Power.GONE
        instance.failed_at = Now()
        instance.failed_reason = f"The launch {self.operation.outcome}: {self.operation.reason}"
        instance.save()
        return DONE


class LaunchClone(LaunchInstance):
    """From a row to a machine that goes on from another one's snapshot."""

    kind = "compute.launch_clone"

    def boot(self) -> Verdict:
        """Wait for the snapshot, and go on from it."""
        instance = self.instance
        if instance.has_been_seen(Power.RUNNING):
            instance.clone_of_snapshot = None  # from now on it has a disk of its own
            instance.save(update_fields=["clone_of_snapshot"])
            self._tell_source()
            return DONE
        source = instance.cloned_from
        if source is None or source.snapshot is None or source.snapshot != instance.clone_of_snapshot:
            raise Refused("What it was to be cloned from is not there any more.")
        if source.seen_facts.get("snapshot") != str(source.snapshot):
            return Wait(LOOK_AGAIN_SECONDS, because=f"waiting for the memory of {source.name}")
        return self.until_seen(Power.RUNNING)

    def release(self) -> Verdict:
        self._tell_source()
        return super().release()

    def _tell_source(self) -> None:
        """The source waits for its clones. It locks them after itself, so one that is at work is not waited for."""
        if source_id := self.instance.cloned_from_id:
            live = Operation.objects.filter(
                subject_type="instance", subject_id=source_id, kind=CloneInstance.kind, finished_at=None
            )
            engine.wake(live.select_for_update(skip_locked=True).first())


class StartInstance(PowerChange):
    """From stopped to running, where it is placed."""

    kind = "compute.start"
    first = "boot"
    reaches = Power.RUNNING

    def boot(self) -> Verdict:
        return self.until_seen(self.reaches)


class StopInstance(PowerChange):
    """From running to stopped: asked by ACPI, then forced after the grace."""

    kind = "compute.stop"
    first = "halt"
    reaches = Power.STOPPED

    def halt(self) -> Verdict:
        if self.instance.host is None:
            return DONE
        return self.until_seen(self.reaches)


class RebootInstance(PowerChange):
    """From running to running, once round."""

    kind = "compute.reboot"
    first = "restart"
    reaches = Power.RUNNING

    def restart(self) -> Verdict:
        return self.until_seen(self.reaches)


class PauseInstance(PowerChange):
    """From running to standing still, in memory."""

    kind = "compute.pause"
    first = "freeze"
    reaches = Power.PAUSED
    supersedes = frozenset()

    def freeze(self) -> Verdict:
        return self.until_seen(self.reaches)


class SuspendInstance(PowerChange):
    """From running to standing still, on its host's disk."""

    kind = "compute.suspend"
    first = "save"
    reaches = Power.SUSPENDED
    supersedes = frozenset()

    def save(self) -> Verdict:
        return self.until_seen(self.reaches)


class ResumeInstance(PowerChange):
    """From paused or suspended to running, as if nothing had been."""

    kind = "compute.resume"
    first = "go_on"
    reaches = Power.RUNNING
    supersedes = frozenset()

    def go_on(self) -> Verdict:
        return self.until_seen(self.reaches)


class CloneInstance(InstanceWorkflow):
    """Keep a snapshot of an instance until its clones have begun."""

    kind = "compute.clone"
    first = "snapshot"

    def snapshot(self) -> Verdict:
        """Wait for its host to have taken it."""
        instance = self.instance
        if instance.seen_generation == instance.generation:
            if instance.seen_facts.get("snapshot") == str(instance.snapshot):
                return self.hand_over
            if problem := instance.seen_facts.get("snapshot_problem"):
                raise Refused(problem)
        return self.until_seen(Power(instance.wanted_power), again=True)

    def hand_over(self) -> Verdict:
        """Let the clones begin. Only their operations are locked here: the order of locks is kept."""
        for launch in self._launches().select_for_update().order_by("pk"):
            engine.wake(launch)
        return self.wait

    def wait(self) -> Verdict:
        """Wait until every clone has begun, or never will."""
        left = self._launches().count()
        return Wait(CLONES_SECONDS, because=f"{left} to begin") if left else self.tidy

    def _launches(self) -> QuerySet[Operation]:
        clones = Instance.objects.filter(cloned_from=self.operation.subject_id, clone_of_snapshot__isnull=False)
        return Operation.objects.filter(
            subject_type="instance", subject_id__in=clones.values("pk"), kind=LaunchClone.kind, finished_at=None
        )

    def give_up(self) -> Verdict:
        return self.tidy

    def tidy(self) -> Verdict:
        self.instance.snapshot = None
        self.instance.save(update_fields=["snapshot"])
        raise_generation(self.instance)
        return self.settle

    def settle(self) -> Verdict:
        """Wait until its host has dropped the snapshot."""
        if self.instance.has_been_seen(Power.BROKEN):
            return DONE
        return self.until_seen(Power(self.instance.wanted_power))


class DeleteInstance(InstanceWorkflow):
    """From anything to nothing. Takes over from whatever was under way."""

    kind = "compute.delete"
    first = "destroy"
    patience = timedelta(days=3650)
    persists = True
    supersedes = PowerChange.supersedes | {"compute.clone"}

    def destroy(self) -> Verdict:
        instance = self.instance
        if instance.host is None or instance.has_been_seen(Power.GONE):
            return self.forget
        self.progress(0, 1, "machine")
        verdict = self.order("ensure_gone")
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
            Allocation.objects.filter(pk=instance.pk).delete()
            waiting.offer_room()
        instance.delete()
        return DONE

    def may_cancel(self) -> bool:
        return self.operation.progress_of is None  # set with the first order
