"""A small cloud whose nodes have volumes: the agent's own kind, with its files."""

import subprocess
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models.functions import Now
from django.test import override_settings

from cloud.hosts.models import Host
from cloud.operations.models import Operation
from storage import hosting, trees
from storage.agent.transfers import Transfers
from storage.agent.volumes import Volumes
from storage.models import Layer, Volume
from storage.services import flattening, volumes
from tests import factories
from tests.clouds import ALICE, SmallCloud
from tests.fakes import FakeNode


def give_volumes(node: FakeNode) -> Volumes:
    """From now on the node has volumes, and sends and receives them."""
    kind = Volumes(node.tools)
    node.tools.add(kind, Transfers(node.tools))
    node.heartbeat()
    return kind


def kind_of(cloud: SmallCloud) -> Volumes:
    """The node's kind; it gets one when it is first asked for."""
    found = cloud.node.kinds.get("volume") or give_volumes(cloud.node)
    assert isinstance(found, Volumes)
    return found


def do(service: Any, **how: Any) -> Any:
    """One service in a transaction of its own."""
    with transaction.atomic():
        return service(actor=ALICE, **how)


def second(cloud: SmallCloud) -> FakeNode:
    """Another node that has volumes; it joins when it is first asked for."""
    if len(cloud.nodes) == 1:
        cloud.nodes.append(cloud.add_node("node2"))
        give_volumes(cloud.nodes[1])
    return cloud.nodes[1]


def make(cloud: SmallCloud, **facts: Any) -> Volume:
    """A volume that is nowhere yet."""
    kind_of(cloud)
    wished = {"size_gib": 1, "name": factories.name("data"), **facts}
    made: Volume = do(volumes.create, project=cloud.project, **wished)
    return made


def placed(cloud: SmallCloud, **facts: Any) -> Volume:
    """A volume that is on the node, as if it had been attached there once."""
    made = make(cloud, **facts)
    with transaction.atomic():
        hosting.connect(made, Host.objects.get(name="node1"))
    settle(cloud)
    return Volume.objects.get(pk=made.pk)


def deep(cloud: SmallCloud, layers: int = 4, **facts: Any) -> Volume:
    """A volume on the node that stands on so many layers, as if it had had snapshots that are gone."""
    made = make(cloud, **facts)
    with transaction.atomic():
        for _ in range(layers - 1):
            Layer.objects.filter(pk=made.active_id).update(sealed_at=Now())
            made.active = trees.over(made.active, size_gib=made.size_gib)
            made.save(update_fields=["active"])
        hosting.connect(made, Host.objects.get(name="node1"))
    settle(cloud)
    return Volume.objects.get(pk=made.pk)


def flatten(volume: Volume, *, most: int = 2) -> Operation:
    """Begin to merge its layers, as if so many were usual."""
    with override_settings(VOLUME_MAX_LAYERS=most):
        begun: Operation = do(flattening.flatten, volume=volume)
        return begun


def settle(cloud: SmallCloud) -> None:
    """Whatever is under way ends, and the node has looked after it."""
    cloud.settle()
    cloud.settle()


def files(cloud: SmallCloud) -> set[str]:
    """The ids of the layers that the node has."""
    return set(kind_of(cloud).layers.there())


def path(cloud: SmallCloud, volume: Volume) -> Path:
    """The file of the layer that is written."""
    return kind_of(cloud).layers.path(str(Volume.objects.get(pk=volume.pk).active_id))


def write(cloud: SmallCloud, volume: Volume, pattern: int, at: str = "0", length: str = "64k") -> None:
    """What a guest would write."""
    qemu_io(path(cloud, volume), f"write -P {pattern} {at} {length}")


def reads(cloud: SmallCloud, volume: Volume, pattern: int, at: str = "0", length: str = "64k") -> bool:
    """Whether all that a guest would read there is this byte."""
    return "verification failed" not in qemu_io(path(cloud, volume), f"read -P {pattern} {at} {length}")


def qemu_io(file: Path, command: str) -> str:
    done = subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", command, str(file)], check=True, capture_output=True, text=True
    )
    return done.stdout
