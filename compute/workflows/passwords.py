"""New passwords for users of a guest."""

from cloud.operations.workflow import Verdict
from compute.models import Power
from compute.workflows.base import SpecChange


class ResetPassword(SpecChange):
    """Done once its guest agent has set the password, or else its host has it for the next start; with `parameters`:
    {"reboot": true} after that start."""

    kind = "compute.reset-password"
    first = "tell"

    def tell(self) -> Verdict:
        return self.until_seen(Power(self.instance.wanted_power))

    def undo(self) -> None:
        reset = self.instance.password_reset
        if reset and reset["id"] == str(self.operation.pk) and not reset["taken"]:
            self.instance.password_reset = None
            self.instance.save(update_fields=["password_reset"])
