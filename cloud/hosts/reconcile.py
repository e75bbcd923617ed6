"""Level-triggered repair of everything on hosts: what has vanished is noted, what is not as wanted is worked on."""

from cloud.hosts import lost, vanished
from cloud.hosts.resources import kinds


def reconcile() -> None:
    """Have every kind open operations where what is seen is not what is wanted."""
    lost.settle()
    for kind in kinds():
        vanished.note(kind)
        kind.reconcile()
