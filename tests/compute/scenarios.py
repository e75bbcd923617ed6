"""How every kind of operation on an instance comes about."""

import contextlib
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db import transaction

from cloud.events.services import Actor
from cloud.hosts import services as hosts
from cloud.hosts.models import Host
from cloud.operations import engine
from cloud.operations.models import Operation
from compute import losing, services
from compute.drain import drain as drain_host
from compute.first_volumes import Disk
from compute.models import Instance
from compute.services.moving import move
from compute.services.taking import take_it_over
from network.models import Port
from network.services import networks
from storage.models import Image, Transfer, Volume
from tests import factories
from tests.clouds import ALICE, SmallCloud, iso_on
from tests.scenarios import Scenario, after
from tests.storage.clouds import make, second
from tests.storage.scenarios import disk_image, make_images, share_folder, silence


class Instances:
    """Instances as subjects: what runs of them is what is seen to run."""

    def seen(self, subject_id: UUID) -> str | None:
        found = Instance.objects.filter(pk=subject_id).first()
        return found.seen if found else None

    def delete(self, cloud: SmallCloud, subject_id: UUID) -> None:
        cloud.do(services.delete, Instance(pk=subject_id))

    def check(self, cloud: SmallCloud, subject_id: UUID) -> None:
        assert (str(subject_id) in cloud.running()) == (self.seen(subject_id) in ("running", "paused"))


class TakenInstances(Instances):
    """The host before hears of it once it is back."""

    def delete(self, cloud: SmallCloud, subject_id: UUID) -> None:
        cloud.nodes[0].online = True
        super().delete(cloud, subject_id)

    def check(self, cloud: SmallCloud, subject_id: UUID) -> None:
        cloud.nodes[0].online = True
        cloud.settle()
        super().check(cloud, subject_id)


def launched(cloud: SmallCloud) -> Instance:
    instance = cloud.launch()
    cloud.settle()
    return instance


def having(verb: Callable[..., object]) -> Callable[[SmallCloud], Instance]:
    """Launched, and then this was done with it."""

    def prepare(cloud: SmallCloud) -> Instance:
        instance = launched(cloud)
        cloud.do(verb, instance)
        cloud.settle()
        return instance

    return prepare


def not_launched(cloud: SmallCloud) -> Instance:
    """Its launch with two volumes was cancelled: it is placed nowhere, and has what was there before back."""
    there = make(cloud, name=factories.name("there"))
    instance = cloud.launch(volumes=[Disk(volume=there, delete_with_instance=False), Disk(size_gib=1)])
    engine.cancel(Operation.objects.get(subject_id=instance.pk).pk, actor=ALICE)
    cloud.settle()
    return instance


def clone(*, instance: Instance, actor: Actor) -> object:
    return services.clone(instance=instance, actor=actor, name=factories.name("copy"))


def clone_anew(cloud: SmallCloud, source: Instance) -> None:
    """Of two clones one is cancelled, and started again while the snapshot is kept for the other."""
    cancelled, _ = cloud.do(services.clone, source, name=factories.name("copy"), count=2)
    launch = Operation.objects.get(subject_id=cancelled.pk)
    engine.cancel(launch.pk, actor=ALICE)
    engine.advance(launch.pk)
    cloud.node.look()
    engine.advance(launch.pk)
    cloud.do(services.start, cancelled)


def attach_nic(*, instance: Instance, actor: Actor) -> object:
    network = networks.create(project=instance.project, actor=actor, name=factories.name("net"))
    return services.attach_nic(instance=instance, actor=actor, network=network)


def detach_nic(*, instance: Instance, actor: Actor) -> object:
    port = Port.objects.get(holder_id=instance.pk)
    return services.detach_nic(instance=instance, actor=actor, port=port)


def with_volume(cloud: SmallCloud) -> Instance:
    """Launched, with a volume that is attached to nothing beside it."""
    make(cloud, name=factories.name("free"))
    return launched(cloud)


def attach_volume(*, instance: Instance, actor: Actor) -> object:
    free = Volume.objects.filter(project=instance.project, attachments=None).latest("created_at")
    return services.attach_volume(instance=instance, actor=actor, volume=free)


def detach_volume(*, instance: Instance, actor: Actor) -> object:
    held = Volume.objects.get(attachments__holder_id=instance.pk)
    return services.detach_volume(instance=instance, actor=actor, volume=held)


def attached(cloud: SmallCloud) -> Instance:
    instance = with_volume(cloud)
    cloud.do(attach_volume, instance)
    cloud.settle()
    return instance


def with_all_kept(cloud: SmallCloud) -> Instance:
    """Stopped, with a volume, on a host that should make an image of its disk."""
    instance = attached(cloud)
    cloud.do(services.stop, instance)
    cloud.settle()
    make_images(cloud)
    return instance


def beside_a_host(cloud: SmallCloud) -> Instance:
    """Stopped, with a volume, and another host that it can move to."""
    instance = attached(cloud)
    second(cloud)
    cloud.do(services.stop, instance)
    cloud.settle()
    return instance


def on_a_silent_host(cloud: SmallCloud) -> Instance:
    """It boots from a volume in a folder that its host shares with another one, and nothing is heard of its host."""
    root = Disk(size_gib=1, type=share_folder(cloud))
    instance = cloud.launch(image=disk_image(cloud), boot_from=root, host=Host.objects.get(name="node1"))
    cloud.settle()
    silence(cloud)
    return instance


def snapshot(*, instance: Instance, actor: Actor) -> object:
    return services.snapshot(instance=instance, actor=actor, name=factories.name("kept"))


def resize(*, instance: Instance, actor: Actor) -> object:
    larger = factories.flavor(vcpus=2, memory_mib=512, disk_gib=2)
    return services.resize(instance=instance, actor=actor, flavor=larger, restart=True)


def reset_password(*, instance: Instance, actor: Actor) -> object:
    return services.reset_password(instance=instance, actor=actor, password="correct horse", reboot=True)


def beside_an_iso(cloud: SmallCloud) -> Instance:
    """Stopped, beside an ISO that its host has."""
    factories.image(files=[iso_on(cloud.node)])
    return having(services.stop)(cloud)


def insert_cd(*, instance: Instance, actor: Actor) -> object:
    iso = Image.objects.filter(files__contains=[{"role": "cdrom"}]).latest("created_at")
    return services.insert_cd(instance=instance, actor=actor, image=iso)


def with_cd(cloud: SmallCloud) -> Instance:
    """Running, with a CD in its drive."""
    instance = beside_an_iso(cloud)
    for verb in (insert_cd, services.start):
        cloud.do(verb, instance)
        cloud.settle()
    return instance


def lose_root(cloud: SmallCloud, there: Instance) -> None:
    with transaction.atomic():
        losing.lose_root(there.pk)


class Hosts:
    """Hosts that are emptied: what stands still on the first one moves."""

    def seen(self, subject_id: UUID) -> str | None:
        stopped = Instance.objects.filter(wanted_power="stopped", machine__host=subject_id)
        return "holds" if stopped.exists() else "empty"

    def delete(self, cloud: SmallCloud, subject_id: UUID) -> None:
        """Refused, as something is on it."""
        with contextlib.suppress(hosts.HostConflict), transaction.atomic():
            hosts.remove(Host.objects.get(pk=subject_id), actor=ALICE)

    def check(self, cloud: SmallCloud, subject_id: UUID) -> None:
        assert not Transfer.objects.exists()


def full_host(cloud: SmallCloud) -> Host:
    """With an instance that stands still, and another host."""
    second(cloud)
    Host.objects.filter(name="node1").update(enabled=True)
    Host.objects.filter(name="node2").update(enabled=False)
    beside_a_host(cloud)
    Host.objects.filter(name="node2").update(enabled=True)
    return Host.objects.get(name="node1")


def drain(cloud: SmallCloud, there: Host) -> None:
    with transaction.atomic():
        drain_host(host=there, actor=ALICE)


def scenario(kind: str, prepare: Callable[[SmallCloud], Any], verb: Callable[..., object], **facts: Any) -> Scenario:
    return Scenario(f"compute.{kind}", Instances(), prepare, lambda cloud, there: cloud.do(verb, there), **facts)


SCENARIOS = [
    scenario("launch", not_launched, services.start, after=after("running", otherwise="gone")),
    scenario("start", having(services.stop), services.start, after=after("running", otherwise="stopped")),
    scenario("stop", launched, services.stop, after=after("stopped", otherwise="running")),
    scenario("reboot", launched, services.reboot, after=after("running", otherwise="running")),
    scenario("pause", launched, services.pause, after=after("paused", otherwise="running")),
    scenario("suspend", launched, services.suspend, after=after("suspended", otherwise="running")),
    scenario("resume", having(services.suspend), services.resume, after=after("running", otherwise="suspended")),
    scenario("clone", launched, clone, after=after("running", otherwise="running")),
    Scenario("compute.launch_clone", Instances(), launched, clone_anew, after=after("running", otherwise="gone")),
    scenario("snapshot", with_all_kept, snapshot, after=after("stopped", otherwise="stopped")),
    scenario("resize", launched, resize, after=after("running", otherwise="running")),
    scenario("reset-password", launched, reset_password, after=after("running", otherwise="running")),
    scenario("move", beside_a_host, move, after=after("stopped", otherwise="stopped")),
    Scenario(
        "compute.take_over",
        TakenInstances(),
        on_a_silent_host,
        lambda cloud, there: cloud.do(take_it_over, there),
        after=after("running", otherwise="stopped"),
    ),
    Scenario("compute.lose", Instances(), launched, lose_root, after=after("gone", otherwise="gone")),
    Scenario("compute.drain", Hosts(), full_host, drain, after=after("empty", otherwise="holds"), deleted=""),
    scenario("attach-nic", launched, attach_nic, after=after("running", otherwise="running")),
    scenario("detach-nic", having(attach_nic), detach_nic, after=after("running", otherwise="running")),
    scenario("attach-volume", with_volume, attach_volume, after=after("running", otherwise="running")),
    scenario("detach-volume", attached, detach_volume, after=after("running", otherwise="running")),
    scenario("insert-cd", beside_an_iso, insert_cd, after=after("stopped", otherwise="stopped")),
    scenario("eject-cd", with_cd, services.eject_cd, after=after("running", otherwise="running")),
    scenario("discard", launched, services.discard, after=after("stopped", otherwise="running")),
    scenario("restore", having(services.discard), services.restore, after=after("running", otherwise="stopped")),
    scenario("delete", launched, services.delete, after=after(None, otherwise="running"), deleted="done"),
]
