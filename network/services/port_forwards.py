"""Port forwards: one port of a floating IP, or of the host's 127.0.0.1, leads to a port of a machine."""

import random
from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import uuid4

from django.conf import settings

from cloud.events.services import Actor, record
from cloud.problems import Conflict, Fault, Problem, explain_constraint
from cloud.tenancy import quota
from network.models import FloatingIP, Port, PortForward
from network.services import floating_ips, outside
from network.services.changes import change
from network.services.uses import refuse_if_used, use

LOOPBACK = "127.0.0.1"
MIN_LOOPBACK_PORT = 1024  # those below belong to the host
CHOSEN_FROM = range(20000, 30000)

explain_constraint("listening_port_is_used_once", "Something listens on this port already.", pointer="/listen/port")


class UnfitForward(Problem):
    """A port forward that cannot be; `errors` names every fault."""

    title: ClassVar[str] = "The port forward cannot be like this"


def create(
    *,
    port: Port,
    actor: Actor,
    target_port: int,
    protocol: str = "tcp",
    floating_ip: FloatingIP | None = None,
    listen_port: int | None = None,
    address: str | None = None,
    name: str = "",
    labels: dict[str, str] | None = None,
) -> PortForward:
    """Lead a port to a machine's port. Without a floating IP it listens on 127.0.0.1 of the machine's host, on a port
    that is chosen where none is given. Raises UnfitForward, NoWayIn, InUse, OverQuota, Conflict.
    """
    _require_sense(floating_ip, listen_port)
    quota.require(port.project_id, port_forwards=1)
    if floating_ip is not None and floating_ip.target_id:
        leads = use("port", floating_ip.target.port)  # type: ignore[union-attr]
        refuse_if_used(floating_ip, [leads], hint="All of its ports lead there. Disassociate it first.")
    target = floating_ips.reachable(port, address)
    ident = uuid4()
    forward = PortForward.objects.create(
        id=ident, project_id=port.project_id, name=name or f"forward-{ident.hex[:8]}", labels=labels or {},
        protocol=protocol, floating_ip=floating_ip, listen_port=listen_port or _free_port(protocol), target=target,
        target_port=target_port,
    )  # fmt: skip
    after = {"listen_port": forward.listen_port, "target": target.address, "target_port": target_port}
    record("network.port_forward.create", forward, actor=actor, after=after)
    outside.leads_elsewhere(forward.project_id, [target])
    return forward


def _require_sense(floating_ip: FloatingIP | None, listen_port: int | None) -> None:
    faults = []
    if floating_ip is None:
        if not settings.PUBLISH_ON_LOOPBACK:
            words = "Only a cloud on one machine forwards from 127.0.0.1. Give a floating IP."
            faults.append(Fault("/listen/address", words))
        elif listen_port is not None and listen_port < MIN_LOOPBACK_PORT:
            words = f"On 127.0.0.1 ports from {MIN_LOOPBACK_PORT} on can be used."
            faults.append(Fault("/listen/port", words))
    elif listen_port is None:
        faults.append(Fault("/listen/port", "Say on which port of the floating IP."))
    if faults:
        raise UnfitForward(" ".join(fault.message for fault in faults), errors=faults)


def _free_port(protocol: str) -> int:
    """Some port of 127.0.0.1 on which no other forward listens."""
    listening = PortForward.objects.filter(floating_ip=None, protocol=protocol).values_list("listen_port", flat=True)
    free = set(CHOSEN_FROM).difference(listening)
    if not free:
        raise Conflict(f"Every port from {CHOSEN_FROM[0]} to {CHOSEN_FROM[-1]} is taken. Say which one.")
    return random.choice(sorted(free))  # noqa: S311 - two at once hardly choose the same


def update(*, forward: PortForward, actor: Actor, changes: Mapping[str, Any]) -> PortForward:
    """Change a port forward's name or labels."""
    forward, before = change(forward, changes)
    record("network.port_forward.update", forward, actor=actor, before=before, after=changes)
    return forward


def delete(*, forward: PortForward, actor: Actor) -> None:
    """Lead nowhere any more."""
    quota.lock(forward.project_id)
    outside.remove_forward(forward, actor)
