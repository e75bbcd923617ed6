"""From one host to another, while it stands still."""

from datetime import timedelta
from functools import cached_property

from cloud.hosts.hosted import refusal
from cloud.operations.models import FixBy
from cloud.operations.workflow import DONE, Refused, Verdict
from compute import moves, volumes
from compute.models import Machine, Power
from compute.workflows.base import InstanceWorkflow, PowerChange
from storage import moving
from storage.models import Transfer


class MoveInstance(InstanceWorkflow):
    """Its own disk and its volumes are copied to a second machine, which then becomes the one that counts.

    `parameters`: {"transfer": its id}. Until `take_over` nothing has changed where it is.
    """

    kind = moves.MOVING
    first = "send"
    patience = timedelta(hours=24)

    @cached_property
    def transfer(self) -> Transfer:
        found = moving.locked(self.operation.parameters["transfer"])
        if found is None or found.outcome == Transfer.Outcome.GIVEN_UP:
            raise Refused("Its transfer is not there any more.", fix_by=FixBy.NOBODY)
        return found

    def send(self) -> Verdict:
        return moving.until_sent(self.transfer) or self.receive

    def receive(self) -> Verdict:
        return moving.until_received(self.transfer) or self.take_in

    def take_in(self) -> Verdict:
        if wait := moving.until_taken_in(self.transfer):
            return wait
        machine = self._second()
        if machine.has_been_seen(Power.STOPPED):
            return self.take_over
        if machine.has_been_seen(Power.BROKEN):
            raise refusal(machine)
        return self.order(Power.STOPPED, machine)

    def take_over(self) -> Verdict:
        """The one moment at which it is somewhere else."""
        instance = self.instance  # locked before what is on its hosts
        if self.transfer.outcome != Transfer.Outcome.MOVED:
            moving.require_whole(self.transfer)
            moves.take_over(instance, self._second())
            moving.take_over(self.transfer)
        return DONE

    def _second(self) -> Machine:
        """The machine where it is to be."""
        rows = self.instance.machines.select_for_update(of=("self",)).select_related("host")
        return rows.get(host=self.transfer.target)

    def give_up(self) -> Verdict:
        return self.take_back

    def take_back(self) -> Verdict:
        """It stays where it is; the target removes what has come by itself."""
        moves.abandon(self.instance)
        return DONE


class TakeOverInstance(PowerChange):
    """From a host that is not heard of. It is elsewhere as this begins; giving up leaves it there, stopped.

    `parameters`: {"from", "to", "volumes", "bytes"}, for people.
    """

    kind = "compute.take_over"
    first = "fence"
    reaches = Power.RUNNING

    def is_reached(self) -> bool:
        return self.instance.has_been_seen(self.instance.wanted_power)

    def take_back(self) -> Verdict:
        verdict = super().take_back()
        moves.abandon(self.instance)  # the host before still has to remove what it has
        return verdict

    def fence(self) -> Verdict:
        """Until its new host has seen that the one before can write nothing any more."""
        return volumes.bring(self.instance) or self.boot

    def boot(self) -> Verdict:
        return self.until_started(Power(self.instance.wanted_power))
