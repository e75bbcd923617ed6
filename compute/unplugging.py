"""NICs of instances in the trash: their ports go, and come back with their addresses as far as these are free."""

from typing import Any
from uuid import UUID

from django.db import transaction

from cloud.events.services import Actor
from cloud.problems import Conflict
from compute import networking
from compute.models import Instance
from compute.networking import HOLDER, Nic
from network.allocation import NoAddressLeft
from network.models import FloatingIP, Network, Port, SecurityGroup
from network.services import ports
from network.services.ports import UnfitPort

UNPLUGGED = "unplugged"  # in the wish that is kept with an instance: it is what was, and not what was asked for
FLOATING = "floating_ips"  # addresses that led to it


def unplug(instance: Instance) -> None:
    """Let its ports go, and keep what they were with the instance, which is locked. Twice is no error."""
    if not (instance.network_wish or {}).get(UNPLUGGED):
        held = list(ports.held_by(HOLDER, instance.pk))
        nics, goes = [_as_it_is(port) for port in held], [port for port in held if port.goes_with_holder]
        _, groups = networking.alike(instance)
        led_here = FloatingIP.objects.filter(target__port__in=goes).order_by("address")
        floating = [str(address) for address in led_here.values_list("address", flat=True)]
        instance.network_wish = {**networking.kept(nics, groups), UNPLUGGED: True, FLOATING: floating}
        instance.save(update_fields=["network_wish"])
    networking.release(instance)


def _as_it_is(port: Port) -> Nic:
    if not port.goes_with_holder:
        return Nic(port=port, gateway=port.gateway)
    first = port.addresses.first()
    return Nic(port.network, first.address if first else None, gateway=port.gateway)


def plug_back(instance: Instance, actor: Actor) -> list[str]:
    """Plug it in again, where it was unplugged. Returns what is not as it was, in sentences. Raises OverQuota."""
    wish = instance.network_wish or {}
    if not wish.get(UNPLUGGED):
        return []
    groups = list(SecurityGroup.objects.filter(pk__in=wish["security_groups"]))
    notes: list[str] = []
    for slot, nic in enumerate(wish["nics"]):
        notes += _plug(instance, actor, nic, groups, slot)
    notes += [f"The floating IP {one} led to it. Associate it again." for one in wish.get(FLOATING, ())]
    instance.network_wish = {name: value for name, value in wish.items() if name not in (UNPLUGGED, FLOATING)}
    instance.save(update_fields=["network_wish"])
    return notes


def _plug(instance: Instance, actor: Actor, nic: dict[str, Any], groups: list[SecurityGroup], slot: int) -> list[str]:
    where: dict[str, Any] = {"slot": slot, "pointer": ""}
    gateway = bool(nic.get("gateway"))
    if nic["port"]:
        port = Port.objects.filter(pk=UUID(nic["port"]), holder_id=None).first()
        if port is None:
            return ["A port that it used is taken by now, or no longer exists."]
        networking.take(instance, actor, Nic(port=port, gateway=gateway), groups, **where)
        return []
    network = Network.objects.filter(pk=UUID(nic["network"])).first()
    if network is None:
        return ["A network that it was on no longer exists."]
    try:
        with transaction.atomic():
            networking.take(instance, actor, Nic(network, nic["address"], gateway=gateway), groups, **where)
        return []
    except (Conflict, UnfitPort):
        try:
            with transaction.atomic():
                networking.take(instance, actor, Nic(network, gateway=gateway), groups, **where)
        except NoAddressLeft as full:
            return [f"{network} has no address left for it: {full.detail}"]
        return [f"{nic['address']} on {network} is taken by now: it has a new address there."]
