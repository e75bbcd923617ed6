"""From anything to a row without a machine, when what an instance boots from is lost."""

from cloud.operations.workflow import DONE, Verdict
from compute import giving_up, moves
from compute.models import Power
from compute.workflows.delete import DeleteInstance

LOST = (
    "The volume that it boots from was lost with its storage host. Start it to have it made anew from its image, with "
    "its addresses; or delete it."
)


class LoseInstance(DeleteInstance):
    """Its machine is removed as in a delete; the row stays, with the reason, and can be started anew."""

    kind = "compute.lose"

    def forget(self) -> Verdict:
        """On a host that is away the machine stays a row without an instance that counts it, until it is removed."""
        machines = self._machines()
        giving_up.lose(self.instance, LOST)
        for machine in machines:
            if machine.has_been_seen(Power.GONE):
                moves.forget(machine)
        return DONE

    def give_up(self) -> Verdict:
        """Cancelled or not: it has nothing to run from."""
        return self.destroy
