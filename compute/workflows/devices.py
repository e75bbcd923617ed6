"""What is plugged into an instance, or out: done once its host has seen to it, or at its next start while it stands."""

from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from cloud.events.services import SYSTEM
from cloud.hosts.hosted import refusal
from cloud.operations.models import FixBy
from cloud.operations.workflow import DONE, Refused, Verdict
from compute import networking, volumes
from compute.models import Power
from compute.workflows.base import SpecChange
from network import hosting
from network.services import ports
from storage.models import Attachment
from storage.services import attaching


class DeviceChange(SpecChange):
    """What is plugged in, at the power that the instance has."""

    patience = timedelta(minutes=5)

    def until_plugged(self, is_so: Callable[[dict[str, Any]], bool]) -> Verdict:
        """Done once its host has plugged everything as it should be; refused with the host's reason.

        `is_so`: whether the facts that a host told of a machine that is on say that this has been done.
        """
        power, facts = Power(self.instance.wanted_power), self.instance.seen_facts
        if not self.instance.has_been_seen(Power.RUNNING, Power.PAUSED):
            return self.until_seen(power)
        if facts.get("devices_problem"):
            raise refusal(self.instance, of="devices_")
        return self.until_seen(power, again=not is_so(facts))


class AttachNic(DeviceChange):
    """Plug in one more NIC, once its host has made the network. `parameters`: {"port": its id, "chosen": that of the
    NIC that was chosen for the default route, where this one was to have it}."""

    kind = "compute.attach-nic"
    first = "connect"

    def connect(self) -> Verdict:
        if wait := networking.connect(self.instance):
            return wait
        self.instance.raise_generation()  # from now on its host is told of it
        return self.plug

    def plug(self) -> Verdict:
        assert self.instance.host is not None
        if not hosting.carries(self.instance.host):  # its address is kept, and nothing is plugged in
            return DONE
        port = self.operation.parameters["port"]
        return self.until_plugged(lambda facts: port in facts.get("nics", ()))

    def undo(self) -> None:
        networking.detach(UUID(self.operation.parameters["port"]))
        if chosen := self.operation.parameters.get("chosen"):
            ports.choose_again(port_id=UUID(chosen), holder_id=self.instance.pk)


class DetachNic(DeviceChange):
    """Let go of a NIC. `parameters`: {"detach_port": its id}; without it in the spec of the machine meanwhile."""

    kind = "compute.detach-nic"
    first = "unplug"

    def unplug(self) -> Verdict:
        port = self.operation.parameters["detach_port"]
        verdict = self.until_plugged(lambda facts: port not in facts.get("nics", ()))
        if verdict is DONE:
            networking.detach(UUID(port))
        return verdict


class AttachVolume(DeviceChange):
    """Plug in a volume, once its files are on the host. `parameters`: {"attachment", "volume"}, their ids."""

    kind = "compute.attach-volume"
    first = "bring"

    @cached_property
    def attachment(self) -> Attachment | None:
        return Attachment.objects.select_related("volume").filter(pk=self.operation.parameters["attachment"]).first()

    def bring(self) -> Verdict:
        if self.attachment is None or self.instance.host is None:
            raise Refused("The volume is not attached any more.", fix_by=FixBy.YOU)
        if wait := volumes.bring(self.instance):
            return wait
        self.instance.raise_generation()  # from now on its host is told of it
        return self.plug

    def plug(self) -> Verdict:
        volume = self.operation.parameters["volume"]
        return self.until_plugged(lambda facts: volume in facts.get("volumes", ()))

    def undo(self) -> None:
        if self.attachment:
            attaching.leave(self.attachment)

    def restore(self) -> Verdict:
        """Let go of the volume once no emulator has it open; one that does not let go of it keeps it."""
        held, instance = self.attachment, self.instance
        if held is None:
            return DONE
        if instance.has_been_seen(Power.BROKEN):
            return DONE  # still attached: detaching it is tried again by whoever wants that
        is_on = instance.has_been_seen(Power.RUNNING, Power.PAUSED)
        if is_on and str(held.volume_id) in instance.seen_facts.get("volumes", ()):
            if not instance.seen_facts.get("devices_problem"):
                return self.until_seen(Power(instance.wanted_power), again=True)
            Attachment.objects.filter(pk=held.pk).update(wanted=True)
            return DONE
        verdict = self.until_seen(Power(instance.wanted_power))
        if verdict is DONE:
            attaching.release(held, actor=SYSTEM)
        return verdict


class DetachVolume(DeviceChange):
    """Let go of a volume. `parameters`: {"attachment", "volume"}, their ids."""

    kind = "compute.detach-volume"
    first = "unplug"

    def unplug(self) -> Verdict:
        volume = self.operation.parameters["volume"]
        verdict = self.until_plugged(lambda facts: volume not in facts.get("volumes", ()))
        if verdict is DONE:
            for held in Attachment.objects.filter(pk=self.operation.parameters["attachment"]):
                attaching.release(held, actor=SYSTEM)
        return verdict

    def undo(self) -> None:
        Attachment.objects.filter(pk=self.operation.parameters["attachment"]).update(wanted=True)
