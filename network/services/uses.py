"""What uses a port, as refusals name it."""

from cloud.uses import InUse, Use, refuse_if_used, use
from network.models import Port

__all__ = ["InUse", "Use", "refuse_if_used", "use", "user_of"]


def user_of(port: Port) -> Use:
    """A port's holder; of a port that nothing holds, the port itself."""
    if port.holder_id is None:
        return use("port", port)
    return Use(port.holder_type, str(port.holder_id), port.holder_name)
