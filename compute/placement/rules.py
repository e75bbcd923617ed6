"""What a host must have for an instance to go there.

A rule is one class that serves two masters from one definition: its SQL condition chooses, and the same condition,
evaluated on every host beside what the host has, explains. Explaining runs when nothing fits, or when somebody asks.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import UUID

from django.conf import settings

from compute import networking, volumes
from compute.hypervisors import KINDS
from compute.models import Instance
from compute.networking import Neighbours
from compute.volumes import Needs
from storage import hardware


@dataclass(frozen=True)
class Wish:
    """What an instance needs of a host. `runs` are the ways to run it, best first, e.g. ("qemu/x86_64",); `parts` what
    its machine is made of, if that is not what every hypervisor makes, e.g. ("pc", "bios", "ide", "e1000").
    """

    vcpus: int
    memory_mib: int
    disk_gib: int
    runs: tuple[str, ...]
    host_id: UUID | None = None
    volumes: Needs = Needs()
    neighbours: Neighbours | None = None
    leaves: UUID | None = None  # the host that it moves away from
    parts: tuple[str, ...] = ()

    @classmethod
    def of(cls, instance: Instance) -> "Wish":
        made_of = hardware.resolve(instance.image.architecture, instance.hardware)
        named = [instance.hypervisor_wish] if instance.hypervisor_wish else instance.image.hypervisors
        needs = volumes.needs(instance)
        hypervisors = [
            name for name in named if KINDS[name].makes(made_of) and (KINDS[name].takes_served or not needs.are_served)
        ]
        size = {"vcpus": instance.vcpus, "memory_mib": instance.memory_mib, "disk_gib": instance.disk_gib}
        wish = cls.of_size(**size, hypervisors=hypervisors, architecture=instance.image.architecture)
        return replace(
            wish,
            host_id=instance.host_wish_id,
            volumes=needs,
            neighbours=networking.neighbours(instance),
            parts=() if made_of.is_plain else made_of.words,
        )

    @classmethod
    def of_size(
        cls, *, vcpus: int, memory_mib: int, disk_gib: int, hypervisors: Iterable[str], architecture: str
    ) -> "Wish":
        """With the ways to run it that take its size."""
        able = [name for name in hypervisors if KINDS[name].takes(vcpus=vcpus, memory_mib=memory_mib)]
        return cls(vcpus, memory_mib, disk_gib, tuple(f"{name}/{architecture}" for name in able))


class Rule(Protocol):
    """`condition` and `have` are SQL over hosts_host h and hosts_hostpulse p; `%(…)s` are the wish's parameters."""

    name: str
    condition: str
    have: str
    lacking: str  # "{count} …", for the sums that tenants may see

    def need(self, wish: Wish) -> str: ...


class Enabled:
    name = "in service"
    condition = "(h.enabled AND h.quarantined = '')"
    have = "CASE WHEN h.quarantined <> '' THEN h.quarantined WHEN h.enabled THEN 'in service' ELSE 'cordoned' END"
    lacking = "{count} not in service"

    def need(self, wish: Wish) -> str:
        return "in service"


class Reachable:
    name = "reachable"
    condition = "(p.seen_at > now() - make_interval(secs => %(unreachable_after)s::float8))"
    have = "'heard ' || extract(epoch FROM now() - p.seen_at)::bigint || ' s ago'"
    lacking = "{count} unreachable"

    def need(self, wish: Wish) -> str:
        return f"heard within {settings.UNREACHABLE_AFTER_SECONDS} s"


TOO_LARGE = "a machine of this size"


class Runs:
    name = "hypervisor"
    # The planner takes `&&` for rare, and would rather sort the few hosts that it expects than walk an index; it
    # cannot see into coalesce.
    condition = "coalesce(h.offers && %(runs)s::varchar[], false)"
    have = """coalesce(nullif(array_to_string(
        array(SELECT way FROM unnest(h.offers) AS way WHERE way LIKE '%%/%%'), ', '), ''), 'nothing')"""
    lacking = "{count} cannot run {runs}"

    def need(self, wish: Wish) -> str:
        return " or ".join(wish.runs) or TOO_LARGE


class Virtualised:
    """Emulation is no boundary between tenants: unless it is allowed, a host needs KVM."""

    name = "hardware virtualisation"
    condition = "(%(emulation)s::bool OR h.accelerated)"
    have = "CASE WHEN h.accelerated THEN 'KVM' ELSE 'emulation' END"
    lacking = "{count} without KVM"

    def need(self, wish: Wish) -> str:
        return "KVM or emulation" if settings.ALLOW_EMULATION else "KVM"


class Chosen:
    name = "host asked for"
    condition = "(h.id = %(host_id)s::uuid)"
    have = "h.name"
    lacking = "{count} not the host asked for"

    def need(self, wish: Wish) -> str:
        return str(wish.host_id)


class BesideVolumes:
    """Volumes are files of one host, and used there only."""

    name = "host of its volumes"
    condition = "(h.id = %(host_of_volumes)s::uuid)"
    have = "h.name"
    lacking = "{count} without the volumes that it has"

    def need(self, wish: Wish) -> str:
        return str(wish.volumes.host_id)


class Elsewhere:
    """Not where it is, and with an agent that receives what moves."""

    name = "another host"
    condition = "(h.id <> %(leaves)s::uuid AND coalesce(h.capabilities ->> 'transfers', '') = 'true')"
    have = "h.name"
    lacking = "{count} it cannot move to"

    def need(self, wish: Wish) -> str:
        return f"not {wish.leaves}"


class KeepsVolumes:
    """With qemu-img any volumes, without it such as begin empty."""

    name = "volumes"
    condition = "coalesce(h.capabilities #>> '{volumes,layers}' = ANY(%(keeps_layers)s::text[]), false)"
    have = "CASE h.capabilities #>> '{volumes,layers}' WHEN 'true' THEN 'any' WHEN 'false' THEN 'empty' ELSE 'none' END"
    lacking = "{count} cannot have its volumes"

    def need(self, wish: Wish) -> str:
        return "any" if wish.volumes.have_base else "empty"


class HasPools:
    """With the shared folders mounted where its volumes are."""

    name = "shared folders"
    condition = "coalesce(h.capabilities -> 'pools' ?& %(pools)s::text[], false)"
    have = "coalesce(h.capabilities ->> 'pools', 'none')"
    lacking = "{count} without the shared folder of its volumes"

    def need(self, wish: Wish) -> str:
        return ", ".join(wish.volumes.pools)


class ReachesStorageHosts:
    """With the program by which machines have volumes of other hosts."""

    name = "volumes of storage hosts"
    condition = "coalesce(h.capabilities #>> '{volumes,nbd}' = 'true', false)"
    have = "CASE WHEN h.capabilities #>> '{volumes,nbd}' = 'true' THEN 'reaches them' ELSE 'no qemu-nbd' END"
    lacking = "{count} without qemu-nbd for its volumes"

    def need(self, wish: Wish) -> str:
        return "reaches them"


class ReachesNeighbours:
    """Where its networks' other machines are, or with tunnels to these. It is preferred, and not insisted on."""

    name = "reaches its networks' other hosts"
    condition = """(h.id = ANY(%(neighbours)s::uuid[])
        OR (%(tunnels_lead_there)s::bool AND coalesce(h.capabilities #>> '{network,vtep}', '') <> ''))"""
    have = "coalesce(nullif(h.capabilities #>> '{network,vtep}', ''), 'no tunnels')"
    lacking = "{count} without tunnels to the hosts of its networks"

    def need(self, wish: Wish) -> str:
        return "tunnels, or the host of its neighbours"


class MadeOf:
    """Old guests need old parts, and distributions differ in what their QEMU has."""

    name = "hardware"
    condition = "coalesce(h.capabilities #> %(parts_at)s::text[] ?& %(parts)s::text[], false)"
    have = "coalesce(translate(h.capabilities #>> %(parts_at)s::text[], '[]\"', ''), 'nothing')"
    lacking = "{count} without {parts_said}"

    def need(self, wish: Wish) -> str:
        return ", ".join(wish.parts)


class Capacity:
    """Enough of one resource is free."""

    def __init__(self, column: str, name: str, unit: str) -> None:
        self.column, self.name, self.unit = column, name, unit
        self.condition = f"(h.free_{column} >= %({column})s::int)"
        self.have = f"h.free_{column} || ' {unit}'"
        self.lacking = f"{{count}} lack {name} (largest free block {{largest_{column}}} {unit}, asked {{{column}}})"

    def need(self, wish: Wish) -> str:
        return f"{parameters(wish)[self.column]} {self.unit}"


CAPACITY = (
    Capacity("vcpus", "vCPUs", "vCPU"),
    Capacity("memory_mib", "memory", "MiB"),
    Capacity("disk_gib", "disk", "GiB"),
)
ALWAYS: tuple[Rule, ...] = (Enabled(), Reachable(), Runs(), Virtualised())
CHOSEN, BESIDE_VOLUMES, KEEPS_VOLUMES, MADE_OF = Chosen(), BesideVolumes(), KeepsVolumes(), MadeOf()
REACHES_NEIGHBOURS, ELSEWHERE, HAS_POOLS = ReachesNeighbours(), Elsewhere(), HasPools()
REACHES_STORAGE_HOSTS = ReachesStorageHosts()


def rules_for(wish: Wish) -> tuple[Rule, ...]:
    asked: tuple[tuple[Any, Rule], ...] = (
        (wish.host_id, CHOSEN),
        (wish.volumes.host_id, BESIDE_VOLUMES),
        (wish.volumes.are_new, KEEPS_VOLUMES),
        (wish.volumes.pools, HAS_POOLS),
        (wish.volumes.are_served, REACHES_STORAGE_HOSTS),
        (wish.parts, MADE_OF),
        (wish.leaves, ELSEWHERE),
    )
    return (*ALWAYS, *(rule for is_asked, rule in asked if is_asked), *CAPACITY)


def preferred(wish: Wish) -> tuple[tuple[Rule, ...], ...]:
    """The rules by which hosts are looked for, one set after the other until one finds a host."""
    rules = rules_for(wish)
    return ((*rules, REACHES_NEIGHBOURS), rules) if wish.neighbours else (rules,)


def parameters(wish: Wish) -> dict[str, Any]:
    return {
        "vcpus": wish.vcpus,
        "memory_mib": wish.memory_mib,
        "own_disk_gib": wish.disk_gib,
        "disk_gib": wish.disk_gib + wish.volumes.gib,
        "leaves": wish.leaves,
        "host_of_volumes": wish.volumes.host_id,
        "pools": list(wish.volumes.pools),
        "keeps_layers": ["true"] if wish.volumes.have_base else ["true", "false"],
        "runs": list(wish.runs),
        "parts": list(wish.parts),
        "parts_at": ["hypervisors", *wish.runs[0].replace("/", "/architectures/", 1).split("/"), "hardware"]
        if wish.runs
        else [],
        "host_id": wish.host_id,
        "emulation": settings.ALLOW_EMULATION,
        "unreachable_after": settings.UNREACHABLE_AFTER_SECONDS,
        "neighbours": list(wish.neighbours.hosts) if wish.neighbours else [],
        "tunnels_lead_there": bool(wish.neighbours and wish.neighbours.have_tunnels),
    }
