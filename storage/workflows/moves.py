"""From one host to another."""

from datetime import timedelta
from functools import cached_property

from cloud.operations.models import FixBy
from cloud.operations.workflow import DONE, Refused, Topic, Verdict, Wait
from storage import hosting, moving
from storage.models import Transfer
from storage.workflows.base import VolumeWorkflow

PATIENCE = timedelta(hours=24)


class Carried(VolumeWorkflow):
    """`parameters`: {"transfer": its id}. Nothing else is done with a volume meanwhile."""

    patience = PATIENCE

    @cached_property
    def transfer(self) -> Transfer | None:
        return moving.locked(self.operation.parameters["transfer"])


class MoveVolume(Carried):
    """Its files are copied to the target, taken in there, and only then removed from the source.

    What else stands on the same tree moves with it: see MoveAlong.
    """

    kind = hosting.MOVING
    first = "send"

    @property
    def open_transfer(self) -> Transfer:
        if self.transfer is None or self.transfer.outcome:
            raise Refused("Its transfer is not there any more.", fix_by=FixBy.NOBODY)
        return self.transfer

    def send(self) -> Verdict:
        return moving.until_sent(self.open_transfer) or self.receive

    def receive(self) -> Verdict:
        return moving.until_received(self.open_transfer) or self.take_in

    def take_in(self) -> Verdict:
        return moving.until_taken_in(self.open_transfer) or self.take_over

    def take_over(self) -> Verdict:
        """The one moment at which it is somewhere else."""
        if self.transfer is None or self.transfer.outcome != Transfer.Outcome.MOVED:
            moving.require_whole(self.open_transfer)
            moving.take_over(self.open_transfer)
        return DONE

    def give_up(self) -> Verdict:
        return self.take_back

    def take_back(self) -> Verdict:
        """It stays where it is; the target removes what has come by itself."""
        if self.transfer is not None:
            moving.give_up(self.transfer)
        return DONE


class TakeOverVolume(VolumeWorkflow):
    """From a host that is not heard of. The rows have changed over as it began, so nothing leads back.

    `parameters`: {"from", "to", "volumes", "bytes"}, for people.
    """

    kind = "storage.take_over"
    first = "fence"

    def fence(self) -> Verdict:
        """Until its new host has seen that the one before can write nothing any more."""
        return self.until_true() or DONE


class MoveAlong(Carried):
    """A volume that moves with another one, or with its instance. When it is cancelled, neither moves."""

    kind = hosting.ALONG
    first = "follow"

    def follow(self) -> Verdict:
        """Until what it moves with has moved."""
        transfer = self.transfer
        if transfer is None or transfer.outcome == Transfer.Outcome.MOVED:
            return DONE
        if transfer.outcome:
            raise Refused(f"It was to move with {transfer.subject_name}, which stays.", fix_by=FixBy.NOBODY)
        because = f"it moves with {transfer.subject_type} {transfer.subject_name}"
        return Wait(hosting.LOOK_AGAIN_SECONDS, because=because, on=(Topic(moving.TRANSFER, transfer.pk),))
