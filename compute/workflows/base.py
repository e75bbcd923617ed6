"""What the workflows of instances share.

Orders say the whole wish, so there is no undo: giving up a launch clears up with the same steps as a delete, giving up
a change of power goes back to the power before it. `take_back` raises the generation first, so that whatever is in
flight for the abandoned wish dies at the host.
"""

from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import Any, ClassVar

from django.db.models import QuerySet

from cloud.events.services import SYSTEM
from cloud.hosts import orders
from cloud.hosts.hosted import refusal
from cloud.operations.models import Outcome
from cloud.operations.workflow import DONE, Verdict, Wait, Workflow
from cloud.queries import Prepared
from compute import giving_up, networking
from compute.models import Instance, Machine, Power

LOOK_AGAIN_SECONDS = 20
PLAIN_WORDS = {
    Power.RUNNING: "waiting for the host to start it",
    Power.PAUSED: "waiting for the host to pause it",
    Power.SUSPENDED: "waiting for the host to write its memory down",
    Power.STOPPED: "waiting for the host to stop it",
    Power.GONE: "waiting for the host to remove it",
}


@Prepared
def _locked(instance_id: Any) -> "QuerySet[Instance]":
    rows = Instance.objects.select_for_update(of=("self",)).select_related("image", "machine__host")
    return rows.filter(pk=instance_id)


class InstanceWorkflow(Workflow):
    """Steps that several verbs share. The instance is locked for the whole step."""

    subject_type = "instance"
    patience = timedelta(minutes=10)

    @cached_property
    def instance(self) -> Instance:
        return _locked.get(self.operation.subject_id)

    def order(self, power: Power, *machines: Machine) -> Wait:
        """Order hosts to make this power true of these machines, or of the one that counts.

        The order's verb is `ensure_` and the power.
        """
        for machine in machines or [self.instance.machine]:
            assert machine is not None
            orders.post(machine.host, "instance", self.instance.pk, f"ensure_{power}", machine.generation)
        return Wait(LOOK_AGAIN_SECONDS, because=PLAIN_WORDS[power])

    def until_started(self, power: Power) -> Verdict:
        """As `until_seen`; its networks are ordered before what is to run, or together with it."""
        begins = power == Power.RUNNING and not self.instance.has_been_seen(Power.RUNNING, Power.BROKEN)
        if begins and (wait := networking.connect(self.instance)):
            if not networking.waits_on_its_host(self.instance):
                return wait
            return replace(self.order(power), because="waiting for the host to make its network and to start it")
        return self.until_seen(power)

    def until_seen(self, power: Power, *, again: bool = False) -> Verdict:
        """Done once the host has seen that power of this generation; order it until then, or `again`."""
        if self.instance.has_been_seen(power) and not again:
            return DONE
        if self.instance.has_been_seen(Power.BROKEN) and not self.operation.outcome:
            raise refusal(self.instance)
        return self.order(power)


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
        instance.wanted_power = self.operation.before["wanted_power"] if instance.host else Power.STOPPED
        instance.save(update_fields=["wanted_power"])
        instance.raise_generation()
        return self.restore

    def restore(self) -> Verdict:
        """Wait until what was taken back is true again, or is known to be broken."""
        instance: Instance = self.instance
        verdict: Verdict = DONE
        if instance.host is not None and not instance.has_been_seen(Power.BROKEN):
            verdict = self.until_seen(Power(instance.wanted_power))
        if verdict is DONE and not self._was_asked_for():
            self._say_so()
        return verdict

    def _was_asked_for(self) -> bool:
        """Whether somebody reads how the operation ends; of a failure of the cloud's own nobody would hear."""
        by_itself = self.operation.requested_by_id is None and self.operation.requested_by == SYSTEM.name
        return not by_itself or self.operation.outcome != Outcome.FAILED

    def _say_so(self) -> None:
        """Say on the instance that what the cloud tried by itself failed."""
        reason, verb = self.operation.reason.rstrip(" .:") or "no reason is known", self.kind.rpartition(".")[2]
        words = f"It should be {self.reaches}, and the cloud could not make it so by itself: {reason}."
        giving_up.note(self.instance, f"{words} To try again, {verb} it.")


class SpecChange(InstanceWorkflow):
    """A change of what its host has to know, at the power that the instance has. Giving up takes it back."""

    def give_up(self) -> Verdict:
        return self.take_back

    def take_back(self) -> Verdict:
        self.undo()
        self.instance.raise_generation()
        return self.restore

    def undo(self) -> None:
        """Change the rows back."""

    def restore(self) -> Verdict:
        if self.instance.host is None or self.instance.has_been_seen(Power.BROKEN):
            return DONE
        return self.until_seen(Power(self.instance.wanted_power))
