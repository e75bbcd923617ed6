"""What is plugged into an instance: NICs and volumes that come and go."""

from collections.abc import Sequence

from django.db.models.functions import Now

from cloud.events.services import Actor
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.tenancy import quota
from compute import networking, volumes, why_not
from compute.models import Instance, Power
from compute.networking import Nic
from compute.services.problems import require
from compute.services.wishes import record_verb, wish
from compute.workflows import AttachNic, AttachVolume, DetachNic, DetachVolume
from network.models import Network, Port, SecurityGroup
from storage import hosting
from storage.models import Attachment, Volume
from storage.services import attaching
from storage.workflows import MoveVolume


def attach_nic(
    *,
    instance: Instance,
    actor: Actor,
    network: Network | None = None,
    address: str | None = None,
    port: Port | None = None,
    gateway: bool = False,
    security_groups: Sequence[SecurityGroup] | None = None,
) -> Operation:
    """Give it one more NIC: on a network, at this address or any that is free; or at a port that there is.

    `gateway`: it has its default route by this one from then on. Raises WrongState, UnfitNetworks, OverQuota, and what
    the port's services raise.
    """
    quota.lock(instance.project_id)
    operation = engine.start(AttachNic, instance, actor=actor)
    require(instance, why_not.attach_nic(instance))
    chosen = networking.chosen(instance)
    held = networking.attach(instance, actor, Nic(network, address, port, gateway), security_groups)
    operation.parameters = {"port": str(held.pk), "chosen": str(chosen.pk) if gateway and chosen else None}
    operation.save(update_fields=["parameters"])
    told = {"gateway": True} if gateway else {}
    record_verb("attach-nic", instance, actor, port=held.name, network=held.network.name, **told)
    return operation


def detach_nic(
    *, instance: Instance, actor: Actor, network: Network | None = None, port: Port | None = None
) -> Operation:
    """Take a NIC away: that of this port, or its only one on a network. Raises WrongState, UnfitNetworks."""
    operation = engine.start(DetachNic, instance, actor=actor)
    require(instance, why_not.detach_nic(instance))
    held = networking.plugged(instance, network, port)
    operation.parameters = {"detach_port": str(held.pk)}
    operation.save(update_fields=["parameters"])
    wish(operation, instance, Power(instance.wanted_power))
    record_verb("detach-nic", instance, actor, port=held.name, network=held.network.name)
    return operation


def attach_volume(
    *,
    instance: Instance,
    actor: Actor,
    volume: Volume | None = None,
    read_only: bool = False,
    delete_with_instance: bool = False,
) -> Operation:
    """Make a volume one more disk of it; one on another host is copied here first.

    Raises WrongState, UnfitVolumes, NoSlot, InUse, Busy.
    """
    operation = engine.start(AttachVolume, instance, actor=actor)
    require(instance, why_not.attach_volume(instance))
    held = volumes.attach(instance, actor, volume, read_only=read_only, goes_with=delete_with_instance)
    _remember(operation, held)
    if hosting.live_kind_of(held.volume) == hosting.MOVING:  # copying it takes as long as it takes
        operation.deadline_at = Now() + MoveVolume.patience
        operation.save(update_fields=["deadline_at"])
    record_verb("attach-volume", instance, actor, volume=held.volume.name, slot=held.slot, read_only=read_only)
    return operation


def detach_volume(*, instance: Instance, actor: Actor, volume: Volume | None = None) -> Operation:
    """Take a volume away from it. Raises WrongState, UnfitVolumes, Busy."""
    operation = engine.start(DetachVolume, instance, actor=actor)
    require(instance, why_not.detach_volume(instance))
    held = volumes.attached(instance, volume)
    attaching.require_not_copied(held.volume)
    attaching.leave(held)
    _remember(operation, held)
    wish(operation, instance, Power(instance.wanted_power))
    record_verb("detach-volume", instance, actor, volume=held.volume.name, slot=held.slot)
    return operation


def _remember(operation: Operation, held: Attachment) -> None:
    operation.parameters = {"attachment": str(held.pk), "volume": str(held.volume_id)}
    operation.save(update_fields=["parameters"])
