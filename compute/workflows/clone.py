"""Both ends of a clone: the source keeps a snapshot until the clones have begun from it."""

from django.db.models import QuerySet

from cloud.hosts.hosted import refusal
from cloud.operations.models import FixBy, Operation
from cloud.operations.workflow import DONE, Refused, Topic, Verdict, Wait
from compute.models import Instance, Power
from compute.workflows.base import LOOK_AGAIN_SECONDS, InstanceWorkflow
from compute.workflows.launch import LaunchInstance

CLONES_SECONDS = 2  # in case a wake-up is lost


class CloneInstance(InstanceWorkflow):
    """Keep a snapshot of an instance until its clones have begun."""

    kind = "compute.clone"
    first = "snapshot"

    def snapshot(self) -> Verdict:
        """Wait for its host to have taken it."""
        instance = self.instance
        if instance.machine and instance.machine.is_up_to_date():
            if instance.seen_facts.get("snapshot") == str(instance.snapshot):
                return self.wait
            if instance.seen_facts.get("snapshot_problem"):
                raise refusal(instance, of="snapshot_")
        return self.until_seen(Power(instance.wanted_power), again=True)

    def wait(self) -> Verdict:
        """Wait until every clone has begun, or never will."""
        if left := list(self._launches().values_list("subject_id", flat=True)):
            clones = tuple(Topic("instance", clone_id) for clone_id in left)
            return Wait(CLONES_SECONDS, because=f"{len(left)} to begin", on=clones)
        return self.tidy

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
        self.instance.raise_generation()
        return self.settle

    def settle(self) -> Verdict:
        """Wait until its host has dropped the snapshot."""
        if self.instance.has_been_seen(Power.BROKEN):
            return DONE
        return self.until_seen(Power(self.instance.wanted_power))


class LaunchClone(LaunchInstance):
    """From a row to a machine that goes on from another one's snapshot."""

    kind = "compute.launch_clone"

    def boot(self) -> Verdict:
        """Wait for the snapshot, and go on from it."""
        instance = self.instance
        if instance.has_been_seen(Power.RUNNING):
            instance.clone_of_snapshot = None  # from now on it has a disk of its own
            instance.save(update_fields=["clone_of_snapshot"])
            return DONE
        source = instance.cloned_from
        if source is None or source.snapshot is None or source.snapshot != instance.clone_of_snapshot:
            raise Refused("What it was to be cloned from is not there any more.", fix_by=FixBy.YOU)
        if source.seen_facts.get("snapshot") != str(source.snapshot):
            snapshot = (Topic("instance", source.pk),)
            return Wait(LOOK_AGAIN_SECONDS, because=f"waiting for the memory of {source.name}", on=snapshot)
        return self.until_started(Power.RUNNING)
