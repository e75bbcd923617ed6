"""Changes of power: each is one order, and done once its host has seen it obeyed."""

from cloud.operations.workflow import DONE, Verdict
from compute.models import Power
from compute.workflows.base import PowerChange


class StartInstance(PowerChange):
    """From stopped to running, where it is placed."""

    kind = "compute.start"
    first = "boot"
    reaches = Power.RUNNING

    def boot(self) -> Verdict:
        return self.until_started(self.reaches)


class StopInstance(PowerChange):
    """From running to stopped: asked by ACPI, then forced after the grace."""

    kind = "compute.stop"
    first = "halt"
    reaches = Power.STOPPED

    def halt(self) -> Verdict:
        if self.instance.host is None:
            return DONE
        return self.until_seen(self.reaches)


class RebootInstance(PowerChange):
    """From running to running, once round."""

    kind = "compute.reboot"
    first = "restart"
    reaches = Power.RUNNING

    def restart(self) -> Verdict:
        return self.until_seen(self.reaches)


class PauseInstance(PowerChange):
    """From running to standing still, in memory."""

    kind = "compute.pause"
    first = "freeze"
    reaches = Power.PAUSED
    supersedes = frozenset()

    def freeze(self) -> Verdict:
        return self.until_seen(self.reaches)


class SuspendInstance(PowerChange):
    """From running to standing still, on its host's disk."""

    kind = "compute.suspend"
    first = "save"
    reaches = Power.SUSPENDED
    supersedes = frozenset()

    def save(self) -> Verdict:
        return self.until_seen(self.reaches)


class ResumeInstance(PowerChange):
    """From paused or suspended to running, as if nothing had been."""

    kind = "compute.resume"
    first = "go_on"
    reaches = Power.RUNNING
    supersedes = frozenset()

    def go_on(self) -> Verdict:
        return self.until_seen(self.reaches)
