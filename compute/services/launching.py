"""Launches: new instances, and where they go."""

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet

from cloud.events.services import Actor, record
from cloud.hosts.models import Host
from cloud.operations import engine
from cloud.problems import Conflict, Fault
from cloud.queries import Prepared
from cloud.saving import insert
from cloud.tenancy import quota
from cloud.tenancy.models import Project
from compute import first_volumes, logins, networking
from compute.first_volumes import Disk
from compute.hypervisors import KINDS, Kind
from compute.models import Flavor, Instance, KeyPair, Power, RestartPolicy
from compute.placement import choose
from compute.placement.explain import explain, fits_an_empty_host
from compute.placement.rules import Wish
from compute.services.problems import NamesTaken, NoCapacity, UnfitLaunch
from compute.workflows import LaunchInstance
from network.models import SecurityGroup
from storage import hardware
from storage.models import Image

MAX_NAME = 63  # characters
MAX_FAILED = 100  # instances of a project whose launch failed
NOT_READY: dict[str, str] = {
    Image.Status.WAITING: "{} waits for its content: upload it first.",
    Image.Status.IMPORTING: "{} is still being imported.",
    Image.Status.DELETING: "{} is being deleted.",
    Image.Status.FAILED: "{} could not be imported: import it anew, or take another one.",
}


def launch(*, name: str, **wishes: Any) -> Instance:
    """Create an instance and begin to launch it: `launch_many` of one."""
    return launch_many(name=name, **wishes)[0]


def numbered(name: str, count: int) -> list[str]:
    """What several instances launched together are called: web-1, web-2 …; a single one is just web."""
    return [name] if count == 1 else [f"{name}-{number}" for number in range(1, count + 1)]


def launch_many(
    *,
    project: Project,
    actor: Actor,
    name: str,
    count: int = 1,
    flavor: Flavor,
    image: Image | None = None,
    boot_from: Disk | None = None,
    volumes: Sequence[Disk] = (),
    keypairs: Sequence[KeyPair] = (),
    user_data: str = "",
    password: str = "",
    labels: dict[str, str] | None = None,
    wanted_power: str = Power.RUNNING,
    restart_policy: str = RestartPolicy.ON_CRASH,
    hypervisor: str = "",
    host: Host | None = None,
    networks: Sequence[networking.Nic] | None = None,
    security_groups: Sequence[SecurityGroup] | None = None,
    open_ssh: bool = False,
    fail_fast: bool = False,
    dry_run: bool = False,
) -> list[Instance]:
    """Create instances that are alike, called as `numbered` says, and begin to launch them.

    `boot_from`: a volume in the place of its own disk; one that is there brings the image that it was made from.

    Raises UnfitLaunch, OverQuota, NamesTaken, NoCapacity, and what plugging it in and attaching its volumes raises.
    What fits no empty host is refused at once; what would fit one waits for room, unless `fail_fast`. Of the password
    only a hash is kept.
    """
    names = numbered(name, count)
    root = boot_from and boot_from.volume
    image = (root and root.image) or image
    if image is None:
        assert root is not None
        words = f"{root} was not made from an image, so nothing starts from it."
        raise UnfitLaunch(words, errors=[Fault("/boot_from/volume", words)])
    disks = first_volumes.plan(image, boot_from, volumes)
    has_own_disk = boot_from is None
    disk_gib = flavor.disk_gib if has_own_disk else 0
    room = {"vcpus": flavor.vcpus, "memory_mib": flavor.memory_mib, "disk_gib": disk_gib}
    unfit = [
        *_faults(flavor=flavor, image=image, hypervisor=hypervisor, is_copied=root is not None, own_disk=has_own_disk),
        *first_volumes.faults(disks, image=image, project=project, names=names, host=host),
    ]
    if unfit:
        raise UnfitLaunch(" ".join(fault.message for fault in unfit), errors=unfit)
    networking.require_alone(networks, count)
    needs = {kind: count * each for kind, each in room.items()}
    quota.require(project, instances=count, **needs, **first_volumes.needed(disks, count))
    _check_failed(project)
    if count > 1:
        check_names(project, names)
    if open_ssh:
        security_groups = networking.with_ssh(project, actor, security_groups)
    password_hash = logins.hashed(password) if password and not dry_run else ""
    cd = image if image.is_cdrom and root is None else None
    boot_files = root.boot_files if root else [] if cd else image.boot_files
    launched = []
    for index, each in enumerate(names):
        own_disks = first_volumes.named(disks, index, names)
        instance = Instance(
            project=project,
            name=each,
            labels=labels or {},
            flavor=flavor,
            **room,
            price_per_hour=flavor.price_per_hour,
            image=image,
            boot_files=boot_files,
            cd=cd,
            cd_drive=cd is not None,
            kernel_command_line=(root or image).kernel_command_line,
            hardware=image.hardware,
            cd_bus=hardware.cd_bus(image.hardware, system=image.os, from_iso=image.is_cdrom),
            hypervisor_wish=hypervisor,
            host_wish=host,
            keypairs=[{"name": key.name, "public_key": key.public_key} for key in keypairs],
            user_data=user_data,
            password_hash=password_hash,
            network_wish=networking.kept(networks, security_groups),
            volume_wish=first_volumes.kept(own_disks),
            restart_policy=restart_policy,
            wanted_power=wanted_power,
            created_by=actor.name,
        )
        insert(instance)
        networking.plug(instance, actor, networks, security_groups)
        first_volumes.attach(instance, actor, own_disks)
        # Only what the first ones occupy shows where the next ones go: several are placed for good, also when dry.
        place(instance, fail_fast=fail_fast, allocate=count > 1 or not dry_run)
        engine.start(LaunchInstance, instance, actor=actor, step="boot" if instance.machine else "place")
        record(
            "compute.instance.launch",
            instance,
            actor=actor,
            after={"name": each, "flavor": flavor.name, "image": image.name, "wanted_power": wanted_power},
        )
        launched.append(instance)
    return launched


@Prepared
def _failed(project_id: Any) -> "QuerySet[Instance]":
    return Instance.objects.filter(project=project_id, failed_at__isnull=False).only("pk")


def _check_failed(project: Project) -> None:
    """Failed launches count nothing in the quota, and each keeps its row: so many, and not more."""
    if len(_failed.rows(project.pk)) >= MAX_FAILED:
        raise Conflict(f"{project} keeps {MAX_FAILED} instances whose launch failed. Delete some, or start them again.")


def check_names(project: Project, names: Sequence[str]) -> None:
    """Name all that are taken; a single one is left to its constraint. The quota's lock keeps other launches away."""
    taken = Instance.objects.filter(project=project, name__in=names, trashed_at=None).order_by("created_at", "name")
    if found := list(taken.values_list("name", flat=True)):
        words = f"{', '.join(found)} {'is' if len(found) == 1 else 'are'} taken. Choose another name."
        raise NamesTaken(words, errors=[Fault("/name", words, "conflict")])


def _faults(*, flavor: Flavor, image: Image, hypervisor: str, is_copied: bool, own_disk: bool) -> list[Fault]:
    """What of a launch does not fit together. `is_copied`: it starts from a volume that has all of the image."""
    faults = []
    if not image.is_ready and not is_copied:
        faults.append(Fault("/image", NOT_READY[image.status].format(image)))
    if not flavor.enabled:
        faults.append(Fault("/flavor", f"{flavor.name} is not offered any more."))
    for unit, least, has in (
        ("GiB of disk", image.min_disk_gib if own_disk else 0, flavor.disk_gib),
        ("MiB of memory", image.min_memory_mib, flavor.memory_mib),
    ):
        if has < least:
            faults.append(Fault("/flavor", f"{image.name} needs {least} {unit}; {flavor.name} has {has}."))
    if hypervisor and hypervisor not in image.hypervisors:
        faults.append(Fault("/hypervisor", f"{image.name} runs under {', '.join(image.hypervisors)} only."))
    kinds = [KINDS[name] for name in ([hypervisor] if hypervisor else image.hypervisors)]
    faults += _faults_of_hardware(image, kinds)
    if not any(kind.takes(vcpus=flavor.vcpus, memory_mib=flavor.memory_mib) for kind in kinds):
        kind = kinds[0]
        most = f"at most {kind.most_vcpus} vCPU and {kind.most_memory_mib} MiB of memory"
        faults.append(Fault("/flavor", f"{kind.name} takes {most}; {flavor.name} has more."))
    return faults


def _faults_of_hardware(image: Image, kinds: Sequence[Kind]) -> list[Fault]:
    wrong = hardware.faults(image.architecture, image.hardware, own_kernel=image.has_own_kernel)
    if wrong:
        return [Fault("/image", f"{image.name}: {' '.join(wrong.values())} Change the image.")]
    if not any(kind.makes(hardware.resolve(image.architecture, image.hardware)) for kind in kinds):
        words = f"{kinds[0].name} makes machines with virtio only, and {image.name} wants others."
        return [Fault("/hypervisor", f"{words} Change the image, or take another hypervisor.")]
    return []


def place(instance: Instance, *, fail_fast: bool, allocate: bool) -> None:
    if choose.place(instance, allocate=allocate).host_id:
        return
    wish = Wish.of(instance)
    if fail_fast or not fits_an_empty_host(wish):
        explanation = explain(wish)
        raise NoCapacity(explanation.summary, extra={"placement": explanation.for_tenant()})
