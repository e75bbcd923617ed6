"""New passwords for users of a guest."""

from cloud.events.services import Actor
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.problems import Fault, Invalid
from compute import logins, why_not
from compute.models import Instance, Power
from compute.services.problems import require
from compute.services.wishes import record_verb, wish
from compute.workflows import ResetPassword

NONE_GIVEN = "Give a password. One is generated only for a single instance, as it is shown once."


def reset_password(
    *, instance: Instance, actor: Actor, user: str = "", password: str = "", reboot: bool = False
) -> Operation:
    """Give a user of its guest, by default its image's, a new password, of which only a hash is kept.

    A guest agent that answers sets it at once; otherwise the guest is told at its next start, by its seed, and `reboot`
    makes this at once. Raises Invalid, WrongState.
    """
    if not password:
        raise Invalid(errors=[Fault("/password", NONE_GIVEN)])
    operation = engine.start(ResetPassword, instance, actor=actor, parameters={"reboot": reboot})
    require(instance, why_not.reset_password(instance) or (why_not.reboot(instance) if reboot else ""))
    user = user or instance.image.default_user
    told = {"id": str(operation.pk), "user": user, "hash": logins.hashed(password), "taken": False}
    wish(operation, instance, Power(instance.wanted_power), password_reset=told)
    record_verb("reset-password", instance, actor, user=user, reboot=reboot)
    return operation
