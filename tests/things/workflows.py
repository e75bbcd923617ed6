"""What is done with a thing. It has every sort of step that the workflows of instances have."""

from datetime import timedelta
from functools import cached_property

from cloud.hosts import orders
from cloud.hosts.hosted import BROKEN, GONE, raise_generation
from cloud.hosts.models import Allocation, Host
from cloud.hosts.room import offer_room
from cloud.operations.workflow import DONE, EVERYTHING, Refused, Topic, Verdict, Wait, Workflow
from tests.things.models import Thing


class ThingWorkflow(Workflow):
    subject_type = "thing"
    patience = timedelta(minutes=10)

    @cached_property
    def thing(self) -> Thing:
        things = Thing.objects.select_for_update(of=("self",)).select_related("host", "needs")
        return things.get(pk=self.operation.subject_id)

    def order(self, verb: str) -> Verdict:
        assert self.thing.host is not None
        orders.post(self.thing.host, "thing", self.thing.pk, verb, self.thing.generation)
        return Wait(3600, because=f"waiting for {verb}")


class MakeThing(ThingWorkflow):
    kind = "things.make"
    first = "place"

    def place(self) -> Verdict:
        if self.thing.host is None:
            self.thing.host = Host.objects.filter(offers__contains=["things"]).latest("created_at")
            self.thing.save(update_fields=["host"])
            Allocation.objects.create(
                resource_type="thing", resource_id=self.thing.pk, host=self.thing.host, disk_gib=2
            )
        return self.wait_for_other

    def wait_for_other(self) -> Verdict:
        needs = self.thing.needs
        if needs is None or needs.has_been_seen("ready"):
            return self.make
        return Wait(3600, because=f"waiting for {needs}", on=(Topic("thing", needs.pk),))

    def make(self) -> Verdict:
        if self.thing.has_been_seen("ready"):
            return DONE
        if self.thing.has_been_seen(BROKEN):
            raise Refused(self.thing.seen_problem)
        return self.order("ensure_ready")

    def is_reached(self) -> bool:
        return self.thing.has_been_seen("ready")

    def give_up(self) -> Verdict:
        return self.abandon

    def abandon(self) -> Verdict:
        raise_generation(self.thing)
        return self.clear_up

    def clear_up(self) -> Verdict:
        if self.thing.host is None or self.thing.has_been_seen(GONE):
            return self.release
        return self.order("ensure_gone")

    def release(self) -> Verdict:
        Allocation.of("thing", self.thing.pk).delete()
        offer_room()
        self.thing.host, self.thing.seen = None, GONE
        self.thing.save(update_fields=["host", "seen"])
        return DONE


class RemoveThing(ThingWorkflow):
    kind = "things.remove"
    first = "destroy"
    persists = True
    supersedes = EVERYTHING

    def destroy(self) -> Verdict:
        if self.thing.host is None or self.thing.has_been_seen(GONE):
            return self.forget
        return self.order("ensure_gone")

    def forget(self) -> Verdict:
        Allocation.of("thing", self.thing.pk).delete()
        self.thing.delete()
        return DONE
