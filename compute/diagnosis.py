"""Why an instance cannot be reached: both ends and the way between them, from what is wanted and what was seen.

`diagnose` reads rows; `look_closer` asks the instance's host what only that can see.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from cloud.problems import Fault, Invalid
from compute import services, why_not
from compute.models import Instance, Power
from compute.networking import DEFAULT, HOLDER
from compute.status import TRANSITIONAL, reason, with_status
from network import hosting
from network.doctor import closer, evidence
from network.doctor.hops import BLOCKED, UNKNOWN, Fix, Hop, Wish, blocked, broken, first_blocked, ok
from network.doctor.walk import Walk, addresses_of, from_outside, inside
from network.models import Address, Network, Port, Subnet

ITSELF = "It is the instance itself. Ask from another one, from an address or from the internet."


@dataclass(frozen=True)
class Origin:
    """From where it should be reached: an instance, an address, or (neither) the internet."""

    instance: Instance | None = None
    address: str | None = None

    def __str__(self) -> str:
        return self.instance.name if self.instance else self.address or "the internet"


@dataclass(frozen=True)
class Diagnosis:
    """The hops in their order. `blocked_at` is the first one that stops the packet."""

    instance: Instance
    origin: Origin
    wish: Wish
    hops: tuple[Hop, ...]
    walk: Walk

    @property
    def blocked_at(self) -> Hop | None:
        return first_blocked(self.hops)

    @property
    def fix(self) -> Fix | None:
        return self.blocked_at.fix if self.blocked_at else None

    @property
    def verdict(self) -> str:
        """blocked, unknown or open."""
        if self.blocked_at:
            return BLOCKED
        return UNKNOWN if any(hop.verdict == UNKNOWN for hop in self.hops) else "open"

    @property
    def says(self) -> str:
        """All of it in a sentence or two."""
        if self.blocked_at:
            return self.blocked_at.says
        way = f"{self.wish} of {self.instance.name} from {self.origin}"
        if unclear := [hop.says for hop in self.hops if hop.verdict == UNKNOWN]:
            return f"Nothing is known to block {way}. Not everything could be seen: {unclear[0]}"
        return f"Nothing blocks {way}."


def diagnose(*, instance: Instance, origin: Origin, wish: Wish) -> Diagnosis:
    """Walk the way of a first packet through what is known. Raises Invalid when it would begin where it ends."""
    if origin.instance and origin.instance.pk == instance.pk:
        raise Invalid(ITSELF, errors=[Fault("/from/instance", ITSELF)])
    own = _ports(instance)
    begins = _beginning(own, origin)
    source = begins if isinstance(begins, list) else None
    hops = [*_of_ends(instance, origin, source)]
    if isinstance(begins, Hop):
        hops.append(begins)
    if not own:
        walk = Walk((_without_nic(instance),))
    elif source:
        walk = inside(source, addresses_of(own, source[0].subnet.family if origin.address else None), wish)
    elif isinstance(begins, Hop):
        walk = Walk(())
    else:
        walk = from_outside(own, wish, origin.address)
    return Diagnosis(instance, origin, wish, (*hops, *walk.hops), walk)


def look_closer(found: Diagnosis) -> Diagnosis:
    """The diagnosis with what the hosts of both ends see, where these run. Waits for them, so in no transaction."""
    target, source, hops = found.walk.target, found.walk.source, found.hops
    blocked_at = {hop.name for hop in hops if hop.verdict == BLOCKED}
    with ThreadPoolExecutor(2) as both:  # they are asked at once: a person waits
        sending = receiving = None
        if target and source and source.port.host_id and "source" not in blocked_at:
            sending = both.submit(evidence.ask_sender, source, target, found.wish)
        if target and target.port.host_id and not blocked_at & {"instance", "host"}:
            receiving = both.submit(evidence.ask, target, found.wish, found.walk.outside)
    if target and source and sending:
        hops = closer.look_at_sender(hops, sending.result(), source, target, found.wish)
    if target and receiving:
        hops = closer.look(hops, receiving.result(), target, found.wish)
    return replace(found, hops=hops)


def _ports(instance: Instance) -> list[Port]:
    held = Port.objects.filter(holder_type=HOLDER, holder_id=instance.pk)
    return list(held.select_related("network", "project", "host").order_by("holder_slot"))


def _beginning(own: list[Port], origin: Origin) -> list[Address] | Hop | None:
    """The addresses inside of the project that it begins at; None: outside. A hop says why it cannot begin there."""
    if origin.instance:
        found = addresses_of(_ports(origin.instance))
        words = f"{origin.instance.name} has no address: it is on no network."
        return found or blocked("source", f"the NICs of {origin.instance.name}", words)
    if origin.address is None or not own:
        return None
    subnets, address = Subnet.objects.filter(project=own[0].project_id), ip_address(origin.address)
    among = [one for one in subnets if address in ip_network(one.cidr)]
    if not among:
        return None
    held = Port.objects.filter(project=own[0].project_id, addresses__address=origin.address)
    if found := [one for one in addresses_of(list(held)) if one.address == origin.address]:
        return found
    words = f"No port of this project has the address {origin.address}, so nothing can send from there."
    return blocked("source", f"the ports on {', '.join(str(one) for one in among)}", words)


def _of_ends(instance: Instance, origin: Origin, source: list[Address] | None) -> Iterator[Hop]:
    """Whether both ends run, on hosts that answer and carry networks."""
    sending = origin.instance
    holder = source[0].port.holder_id if source and source[0].port.holder_type == HOLDER else None
    if sending is None and holder is not None:
        sending = with_status(Instance.objects.select_related("project", "machine__host")).filter(pk=holder).first()
    if sending is not None:
        yield _power("source", sending)
        yield from _host("source", sending)
    yield _power("instance", instance)
    yield from _host("host", instance)


def _power(name: str, instance: Instance) -> Hop:
    looked_at, status = f"the power of {instance.name}", getattr(instance, "status", instance.seen)
    if instance.seen == Power.RUNNING:
        return ok(name, looked_at, f"{instance.name} runs.")
    words = f"{instance.name} is {status}. {reason(instance)}".strip()
    if status in TRANSITIONAL.values():
        return blocked(name, looked_at, f"{words} That is under way: ask again when it is done.")
    if status == "queued":
        return broken(name, looked_at, words)
    verb = "resume" if not why_not.resume(instance) else "start"
    service = services.resume if verb == "resume" else services.start
    path = f"/api/v1/projects/{instance.project}/instances/{instance.name}/{verb}"
    fix = Fix(
        "POST", path, {}, f"{verb.title()}s {instance.name}.", lambda actor: service(instance=instance, actor=actor)
    )
    return blocked(name, looked_at, words, fix)


def _host(name: str, instance: Instance) -> Iterator[Hop]:
    """Tenants do not learn which host it is."""
    looked_at = f"the host of {instance.name}"
    if instance.host is None:
        return
    if getattr(instance, "host_is_unreachable", False):
        words = "Its host has not been heard from for a while. What runs there may still be reached, or not."
        yield broken(name, looked_at, words)
    elif not hosting.carries(instance.host):
        yield broken(name, looked_at, "Its host carries no networks: use the console.")
    else:
        yield ok(name, looked_at, "Its host answers and carries networks.")


def _without_nic(instance: Instance) -> Hop:
    looked_at, words = f"the NICs of {instance.name}", f"{instance.name} is on no network."
    network = Network.objects.filter(project=instance.project_id).order_by("created_at").first()
    network = Network.objects.filter(project=instance.project_id, name=DEFAULT).first() or network
    if network is None or why_not.attach_nic(instance):
        return blocked("nic", looked_at, f"{words} {why_not.attach_nic(instance)}".strip())
    return blocked(
        "nic",
        looked_at,
        words,
        Fix(
            "POST",
            f"/api/v1/projects/{instance.project}/instances/{instance.name}/attach-nic",
            {"network": network.name},
            f"Gives {instance.name} a NIC on {network}.",
            lambda actor: services.attach_nic(instance=instance, actor=actor, network=network),
        ),
    )
