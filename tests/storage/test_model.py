"""Volumes against a model: whatever is done with them, and wherever the host's worker dies, each has its own bytes.

`PILEUS_STEPS=1000 ./pileus test tests/storage/test_model.py` tries longer.
"""

import contextlib
import os
from typing import Any

import pytest
from django.conf import settings as django_settings
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from agent import faults
from cloud.operations import engine
from cloud.operations.models import Operation
from storage.models import Layer, Snapshot, Volume, VolumeType
from storage.services import flattening, snapshots, volumes
from storage.services.volumes import WrongState
from tests import factories
from tests.clouds import ALICE, SmallCloud
from tests.storage.ceph import Cluster
from tests.storage.ceph_clouds import kept
from tests.storage.clouds import do, files, give_volumes, path, placed, qemu_io, settle

STEPS = int(os.environ.get("PILEUS_STEPS", "40"))
BLOCK = 1 << 20
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(180 + 5 * STEPS)]
MAX_VOLUMES = 6
blocks = st.integers(0, 7)
bytes_ = st.integers(1, 250)


class Killed(BaseException):
    """The worker of the host died here."""


class VolumesAgainstModel(RuleBasedStateMachine):
    """`contents` and `taken`: what volumes and snapshots have to hold, by name: block → byte; others are zero."""

    cloud: SmallCloud
    deaths: list[int]  # how many fault points are passed before the worker dies

    def __init__(self) -> None:
        super().__init__()
        self.contents: dict[str, dict[int, int]] = {}
        self.taken: dict[str, tuple[str, dict[int, int]]] = {}  # name → its volume, what it holds

    def volume(self, name: str) -> Volume:
        return Volume.objects.select_related("project").get(project=self.cloud.project, name=name)

    def snapshot(self, name: str) -> Snapshot:
        return Snapshot.objects.select_related("layer__host", "volume").get(project=self.cloud.project, name=name)

    def any_volume(self, data: Any) -> str:
        return str(data.draw(st.sampled_from(sorted(self.contents))))

    def any_snapshot(self, data: Any) -> str:
        return str(data.draw(st.sampled_from(sorted(self.taken))))

    def make(self) -> Volume:
        return placed(self.cloud)

    def io(self, of: Volume | Snapshot, command: str) -> str:
        """What qemu-io says of what is on a volume, or was."""
        kind: Any = self.cloud.node.kinds["volume"]
        file = path(self.cloud, of) if isinstance(of, Volume) else kind.layers.path(str(of.layer_id))
        return qemu_io(file, command)

    def require_nothing_else(self) -> None:
        assert files(self.cloud) == {str(pk) for pk in Layer.objects.exclude(host=None).values_list("pk", flat=True)}

    def rest(self, data: Any) -> None:
        """Everything comes to its end, and perhaps the worker dies on the way there."""
        if data.draw(st.booleans()):
            self.deaths.append(data.draw(st.integers(0, 6)))
        for _ in range(10):
            try:
                settle(self.cloud)
                return
            except Killed:
                self.cloud.nodes[0] = self.cloud.node.restart()
                give_volumes(self.cloud.node)
        raise AssertionError("it never came to its end")

    @rule(data=st.data())
    @precondition(lambda self: len(self.contents) < MAX_VOLUMES)
    def create(self, data):
        name = self.make().name
        self.contents[name] = {}

    @rule(data=st.data(), block=blocks, byte=bytes_)
    @precondition(lambda self: self.contents)
    def write(self, data, block, byte):
        name = self.any_volume(data)
        self.io(self.volume(name), f"write -P {byte} {block * BLOCK} {BLOCK}")
        self.contents[name][block] = byte

    @rule(data=st.data())
    @precondition(lambda self: self.contents)
    def snap(self, data):
        name, made = self.any_volume(data), factories.name("snap")
        do(volumes.snapshot, volume=self.volume(name), name=made)
        self.rest(data)
        self.taken[made] = (name, dict(self.contents[name]))

    @rule(data=st.data())
    @precondition(lambda self: self.contents and len(self.contents) < MAX_VOLUMES)
    def clone(self, data):
        name, made = self.any_volume(data), factories.name("copy")
        do(volumes.clone, volume=self.volume(name), name=made)
        self.rest(data)
        self.contents[made] = dict(self.contents[name])

    @rule(data=st.data())
    @precondition(lambda self: self.taken and len(self.contents) < MAX_VOLUMES)
    def create_from_snapshot(self, data):
        name, made = self.any_snapshot(data), factories.name("copy")
        do(volumes.create, project=self.cloud.project, name=made, snapshot=self.snapshot(name))
        self.rest(data)
        self.contents[made] = dict(self.taken[name][1])

    @rule(data=st.data())
    @precondition(lambda self: self.taken)
    def revert(self, data):
        name = self.any_snapshot(data)
        of, held = self.taken[name]
        do(volumes.revert, volume=self.volume(of), snapshot=self.snapshot(name))
        self.rest(data)
        self.contents[of] = dict(held)

    @rule(data=st.data())
    @precondition(lambda self: self.contents)
    def grow(self, data):
        volume = self.volume(self.any_volume(data))
        do(volumes.resize, volume=volume, size_gib=volume.size_gib + 1)
        self.rest(data)

    @rule(data=st.data())
    @precondition(lambda self: self.contents)
    def flatten(self, data):
        """As the clock does, where there is anything to gain; all that can be read stays as it is."""
        with contextlib.suppress(WrongState):
            do(flattening.flatten, volume=self.volume(self.any_volume(data)))
        self.rest(data)

    @rule(data=st.data())
    @precondition(lambda self: self.contents)
    def cancel(self, data):
        """Begun, and given up at once."""
        do(volumes.snapshot, volume=self.volume(self.any_volume(data)), name=factories.name("snap"))
        engine.cancel(Operation.objects.get(finished_at=None).pk, actor=ALICE)
        self.rest(data)

    @rule(data=st.data())
    @precondition(lambda self: self.taken)
    def delete_snapshot(self, data):
        name = self.any_snapshot(data)
        do(snapshots.delete, snapshot=self.snapshot(name))
        self.rest(data)
        del self.taken[name]

    @rule(data=st.data())
    @precondition(lambda self: self.contents)
    def delete(self, data):
        name = self.any_volume(data)
        do(volumes.delete, volume=self.volume(name), cascade=True)
        self.rest(data)
        del self.contents[name]
        self.taken = {one: held for one, held in self.taken.items() if held[0] != name}

    def teardown(self):
        """Each volume and each snapshot has what it must, and the host has nothing else."""
        self.deaths.clear()
        settle(self.cloud)
        for name, held in self.contents.items():
            self.require(self.volume(name), held)
        for name, (_, held) in self.taken.items():
            self.require(self.snapshot(name), held)
        self.require_nothing_else()
        assert self.cloud.breaches() == []
        for name in self.contents:
            do(volumes.delete, volume=self.volume(name), cascade=True)
        settle(self.cloud)
        self.require_nothing_else()
        assert not Layer.objects.exists()

    def require(self, of: Volume | Snapshot, held: dict[int, int]) -> None:
        commands = [f"read -P {held.get(block, 0)} {block * BLOCK} {BLOCK}" for block in range(8)]
        for command in commands:
            assert "verification failed" not in self.io(of, command), (command, held)


class InCeph(VolumesAgainstModel):
    """The same with a type whose volumes are in Ceph. `before`: images of other tests."""

    ceph: Cluster
    type: VolumeType
    before: set[str]

    def make(self) -> Volume:
        return placed(self.cloud, type=self.type)

    def io(self, of: Volume | Snapshot, command: str) -> str:
        of_snapshot = str(of.layer_id) if isinstance(of, Snapshot) else ""
        layer = of.layer if isinstance(of, Snapshot) else of.active
        return self.ceph.io(str(layer.rbd), command, snapshot=of_snapshot)

    def require_nothing_else(self) -> None:
        """Of each image only what rows tell of is kept, and all of that."""
        layers = list(Layer.objects.exclude(host=None))
        assert self.ceph.images() - self.before == {str(layer.rbd) for layer in layers}
        for image in {layer.rbd for layer in layers}:
            sealed = {str(layer.pk) for layer in layers if layer.rbd == image and layer.sealed_at}
            assert set(kept(self.ceph, image)) == sealed


def test_volumes_keep_what_was_written_to_them(cloud, monkeypatch):
    run(VolumesAgainstModel, cloud, monkeypatch)


def test_volumes_in_ceph_keep_what_was_written_to_them(two, in_ceph, ceph, monkeypatch):
    InCeph.ceph, InCeph.type, InCeph.before = ceph, in_ceph, ceph.images()
    run(InCeph, two, monkeypatch, fewer=2)


def run(model, cloud, monkeypatch, fewer=1):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)
    monkeypatch.setattr(django_settings, "VOLUME_MAX_LAYERS", 2)
    ordinary, deaths = faults.reach, []

    def reach(point: str) -> None:
        ordinary(point)
        if deaths:
            deaths[0] -= 1
            if deaths[0] < 0:
                deaths.clear()
                raise Killed(point)

    monkeypatch.setattr(faults, "reach", reach)
    cloud.project.quota.limits = {}
    cloud.project.quota.save()
    model.cloud, model.deaths = cloud, deaths

    run_state_machine_as_test(
        model,
        settings=settings(
            max_examples=max(1, STEPS // 20 // fewer), stateful_step_count=20, deadline=None, database=None,
            derandomize=True, suppress_health_check=list(HealthCheck), print_blob=False,
        ),
    )  # fmt: skip
