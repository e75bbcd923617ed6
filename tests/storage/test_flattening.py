"""Layers that become one: what is on a volume and on its snapshots stays the same, whatever happens meanwhile."""

import json
import uuid
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.db import transaction
from django.db.models.functions import Now

from agent import faults
from cloud.events.models import Event
from cloud.hosts.models import Allocation, Host
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.uses import InUse
from storage import hosting, trees
from storage.agent import qemu_img
from storage.agent.conversion import argvs_of_merge, node_of_chain
from storage.hosting import NoRoom
from storage.models import Backup, Layer, Snapshot, Volume
from storage.services import attaching, flattening, snapshots, volumes
from storage.services.attaching import Holder
from storage.services.volumes import WrongState
from tests import factories
from tests.clouds import ALICE
from tests.storage.clouds import deep, do, files, flatten, give_volumes, kind_of, path, qemu_io, reads, settle, write
from tests.storage.test_volumes import an_image

pytestmark = pytest.mark.django_db(transaction=True)
MIB = 1 << 20
POINTS = sorted(point for point in faults.POINTS if point.startswith(("merge.", "layers.before_r", "layers.before_u")))


class Killed(BaseException):
    """The worker of the host died here."""


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


def chain(volume):
    """The ids of what it stands on, the lowest first."""
    volume = Volume.objects.select_related("active").get(pk=volume.pk)
    return [str(layer.pk) for layer in trees.tree_of(volume).chain(volume.active_id)]


def write_into(cloud, layer, command):
    """As a guest did while that layer was the one that is written."""
    qemu_io(kind_of(cloud).layers.path(layer), command)


def ended(operation):
    operation.refresh_from_db()
    return operation.outcome, operation.reason


def require_nothing_left(cloud, volume):
    """No room, no layer and no file is kept for what is over."""
    volume = Volume.objects.get(pk=volume.pk)
    assert volume.next_id is None
    assert Allocation.of("volume", volume.pk).get().disk_gib == volume.size_gib
    assert files(cloud) == {str(pk) for pk in Layer.objects.values_list("pk", flat=True)}
    assert not Layer.objects.exclude(merges=[]).exists()
    folder = kind_of(cloud).layers.directory
    assert not [one for one in folder.iterdir() if one.suffix not in (".qcow2", ".raw")]
    assert cloud.breaches() == []


def test_command_lines_name_formats_and_follow_no_header():
    run = [(Path("/v/b.qcow2"), "qcow2"), (Path("/v/c.qcow2"), "qcow2")]
    below = [(Path("/i/a"), "raw")]
    first, second = argvs_of_merge(run, below, Path("/v/w/layer"), Path("/v/w/nothing"))
    empty = {"driver": "qcow2", "file": {"driver": "file", "filename": "/v/w/nothing"}, "backing": None}
    for command, name in ((first, "b"), (second, "c")):
        assert command[:8] == ["qemu-img", "convert", "-p", "-n", "-B", "/v/w/nothing", "-O", "qcow2"]
        source, target = (json.loads(word.removeprefix("json:")) for word in command[8:])
        file = {"driver": "file", "filename": f"/v/{name}.qcow2"}
        assert source == {"driver": "qcow2", "file": file, "backing": empty}
        assert target == node_of_chain([*below, (Path("/v/w/layer"), "qcow2")])
    [lowest] = argvs_of_merge([(Path("/v/a.raw"), "raw")], [], Path("/v/w/layer"), Path("/v/w/nothing"))
    assert lowest[3:5] == ["-n", "--target-is-zero"]


def test_what_is_on_a_volume_stays_and_is_in_fewer_layers(cloud):
    volume = deep(cloud, 5)
    first, second, third, fourth, active = chain(volume)
    write_into(cloud, first, f"write -P 1 0 {8 * MIB}")
    write_into(cloud, second, f"write -P 2 {2 * MIB} 64k")
    write_into(cloud, second, f"write -P 3 {3 * MIB} 512")  # the rest of its cluster is copied from below
    write_into(cloud, third, f"write -z {4 * MIB} 1M")  # discarded by a guest
    write_into(cloud, fourth, f"write -P 4 {4 * MIB + 65536} 64k")
    write_into(cloud, active, f"write -P 5 {6 * MIB} 64k")
    operation = flatten(volume)
    assert Allocation.of("volume", volume.pk).get().disk_gib > volume.size_gib
    settle(cloud)
    assert ended(operation) == ("done", "")
    merged, top = chain(volume)
    assert top == active
    assert merged not in (first, second, third, fourth)
    for pattern, at, length in (
        (1, 0, 2 * MIB), (2, 2 * MIB, 65536), (1, 2 * MIB + 65536, MIB - 65536), (3, 3 * MIB, 512),
        (1, 3 * MIB + 512, MIB - 512), (0, 4 * MIB, 65536), (4, 4 * MIB + 65536, 65536),
        (0, 4 * MIB + 131072, MIB - 131072), (1, 5 * MIB, MIB), (5, 6 * MIB, 65536), (1, 7 * MIB, MIB),
        (0, 8 * MIB, 8 * MIB),
    ):  # fmt: skip
        assert reads(cloud, volume, pattern, str(at), str(length)), (pattern, at)
    require_nothing_left(cloud, volume)
    told = Event.objects.get(action="storage.volume.flatten")
    assert told.after == {"layers": 2}
    do(volumes.delete, volume=volume)
    settle(cloud)
    assert files(cloud) == set()


def test_what_was_discarded_over_an_image_stays_zero_also_beyond_its_end(cloud, settings, tmp_path):
    settings.IMAGE_STORE = tmp_path
    volume = deep(cloud, 4, image=an_image(tmp_path))  # of 64 MiB, with 9 in the first 64 KiB
    lowest, second, third, _ = chain(volume)
    write_into(cloud, lowest, "write -P 1 100M 128k")
    write_into(cloud, second, "write -z 100M 64k")
    write_into(cloud, third, "write -z 0 32k")
    operation = flatten(volume)
    settle(cloud)
    assert ended(operation) == ("done", "")
    assert len(chain(volume)) == 2
    assert Layer.objects.get(pk=chain(volume)[0]).base
    for pattern, at, length in ((0, "0", "32k"), (9, "32k", "32k"), (0, "64k", "1M"), (0, "100M", "64k")):
        assert reads(cloud, volume, pattern, at, length), at
    assert reads(cloud, volume, 1, str(100 * MIB + 65536), "64k")
    require_nothing_left(cloud, volume)


def test_a_volume_that_grew_between_its_layers_keeps_its_size(cloud):
    volume = deep(cloud, 3)
    do(volumes.resize, volume=volume, size_gib=3)
    settle(cloud)
    write(cloud, volume, 7, "2500M")
    for name in ("one", "two"):
        made = do(volumes.snapshot, volume=volume, name=name)
        settle(cloud)
        do(snapshots.delete, snapshot=Snapshot.objects.get(pk=made.pk))
        settle(cloud)
    assert len(chain(volume)) == 5
    flatten(volume)
    settle(cloud)
    merged, _ = chain(volume)
    assert kind_of(cloud).layers.size(merged) == 3 << 30
    assert reads(cloud, volume, 7, "2500M")
    require_nothing_left(cloud, volume)


def test_snapshots_and_clones_keep_what_they_have(cloud):
    """Only what lies between them is merged."""
    volume = deep(cloud, 4)
    write(cloud, volume, 1)
    kept = do(volumes.snapshot, volume=volume, name="kept")
    settle(cloud)
    write(cloud, volume, 2)
    below = chain(volume)[:3]
    flatten(volume)
    settle(cloud)
    merged, *above = chain(volume)
    assert len(above) == 2
    assert not files(cloud) & set(below)
    copy = do(volumes.create, project=cloud.project, name="copy", snapshot=Snapshot.objects.get(pk=kept.pk))
    settle(cloud)
    assert reads(cloud, volume, 2)
    assert reads(cloud, copy, 1)
    with pytest.raises(WrongState, match="too few"):
        flatten(volume)
    do(volumes.revert, volume=volume, snapshot=Snapshot.objects.get(pk=kept.pk))
    settle(cloud)
    assert reads(cloud, volume, 1)
    require_nothing_left(cloud, volume)


def test_what_two_volumes_stand_on_is_left_alone(cloud):
    volume = deep(cloud)
    copy = do(volumes.clone, volume=volume, name="copy")
    settle(cloud)
    for one in (volume, copy):
        with pytest.raises(WrongState, match="too few"):
            flatten(one)
    do(volumes.delete, volume=volume)
    settle(cloud)
    flatten(Volume.objects.get(pk=copy.pk))
    settle(cloud)
    assert len(chain(copy)) == 2
    require_nothing_left(cloud, copy)


def test_a_clone_that_is_made_meanwhile_is_seen(cloud, monkeypatch):
    volume = deep(cloud)
    kept = do(volumes.snapshot, volume=volume, name="kept")
    settle(cloud)
    before = chain(volume)
    operation = flatten(volume)
    copy = do(volumes.create, project=cloud.project, name="copy", snapshot=Snapshot.objects.get(pk=kept.pk))
    settle(cloud)
    outcome, reason = ended(operation)
    assert (outcome, "used otherwise" in reason) == ("failed", True)
    assert chain(volume) == before
    assert chain(copy)[:-1] == before[:-1]
    require_nothing_left(cloud, volume)


def test_a_header_that_names_another_file_is_not_followed(cloud, tmp_path):
    """A guest that took its emulator over wrote it, while its layer was the one that is written."""
    volume = deep(cloud)
    secret = tmp_path / "secret"
    secret.write_bytes(b"\x42" * MIB)
    second = kind_of(cloud).layers.path(chain(volume)[1])
    qemu_img.run(["qemu-img", "rebase", "-u", "-b", str(secret), "-F", "raw", "-f", "qcow2", str(second)])
    flatten(volume)
    settle(cloud)
    assert len(chain(volume)) == 2
    assert reads(cloud, volume, 0, "0", "2M")
    require_nothing_left(cloud, volume)


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_that_dies_in_the_middle_is_followed_by_one_that_goes_on(point, cloud, monkeypatch):
    volume = deep(cloud)
    for number, layer in enumerate(chain(volume)):
        write_into(cloud, layer, f"write -P {number + 1} {number * 64}k 1M")
    operation = flatten(volume)

    def reach(here):
        if here == point:
            raise Killed

    with monkeypatch.context() as killing:
        killing.setattr(faults, "reach", reach)
        with pytest.raises(Killed):
            settle(cloud)
    cloud.nodes[0] = cloud.node.restart()
    give_volumes(cloud.node)
    settle(cloud)
    assert ended(operation) == ("done", "")
    assert len(chain(volume)) == 2
    for number in range(3):
        assert reads(cloud, volume, number + 1, f"{number * 64}k")
    assert reads(cloud, volume, 4, "192k", "1M")
    require_nothing_left(cloud, volume)


def test_a_merge_that_is_cancelled_leaves_all_as_it_was(cloud):
    volume = deep(cloud)
    before = chain(volume)
    operation = flatten(volume)
    with transaction.atomic():
        engine.cancel(operation.pk, actor=ALICE)
    settle(cloud)
    assert ended(operation)[0] == "cancelled"
    assert chain(volume) == before
    require_nothing_left(cloud, volume)


def test_what_it_is_attached_to_rests_and_is_told(cloud, machine):
    volume = deep(cloud)
    write(cloud, volume, 3)
    do(attaching.attach, volume=volume, holder=Holder(machine.kind, machine.id, "web", 0))
    machine.rests = False
    with pytest.raises(InUse, match="machine web"):
        flatten(volume)
    machine.rests = True
    before = chain(volume)
    started = flatten(volume)
    machine.rests = False
    settle(cloud)
    outcome, reason = ended(started)
    assert (outcome, "started meanwhile" in reason, machine.told) == ("failed", True, 0)
    assert chain(volume) == before
    require_nothing_left(cloud, volume)
    machine.rests = True
    flatten(volume)
    settle(cloud)
    assert machine.told == 1
    assert len(chain(volume)) == 2
    attaching.release(volume.attachments.get(), actor=ALICE)
    with transaction.atomic():
        hosting.changed(Volume.objects.select_related("active").get(pk=volume.pk))
    settle(cloud)
    assert reads(cloud, volume, 3), "its header names the layer that it lies on now"
    require_nothing_left(cloud, volume)


def test_what_runs_takes_the_merged_layer_in(cloud, machine):
    """The one that is written stays; what lay below goes once the emulator was told."""
    volume = deep(cloud, 5)
    write(cloud, volume, 3)
    do(attaching.attach, volume=volume, holder=Holder(machine.kind, machine.id, "web", 0))
    machine.rests, machine.replaces_layers = False, True
    active = chain(volume)[-1]
    operation = flatten(volume)
    settle(cloud)
    assert (ended(operation), machine.told) == (("done", ""), 1)
    assert (len(chain(volume)), chain(volume)[-1]) == (2, active)
    require_nothing_left(cloud, volume)
    attaching.release(volume.attachments.get(), actor=ALICE)
    with transaction.atomic():
        hosting.changed(Volume.objects.select_related("active").get(pk=volume.pk))
    settle(cloud)
    assert reads(cloud, volume, 3)


def test_what_cannot_be_now_is_refused(cloud):
    volume = deep(cloud)
    backup = Backup.objects.create(
        project=cloud.project, name="b", size_gib=1, volume=volume, of={}, created_by="mia", status="making"
    )
    with pytest.raises(WrongState, match="backup is being made"):
        flatten(volume)
    backup.delete()
    source = {"kind": "volume", "id": str(uuid.uuid4()), "layer": chain(volume)[1]}
    image = factories.image(files=[], status="importing", source=source)
    with pytest.raises(WrongState, match="image or a backup"):
        flatten(volume)
    image.delete()
    host = Host.objects.get()
    Host.objects.update(capabilities={**host.capabilities, "volumes": {"layers": True}})
    with pytest.raises(WrongState, match="agent is too old"):
        flatten(volume)
    Host.objects.update(capabilities=host.capabilities)
    with pytest.raises(WrongState, match="too few"):
        flatten(volume, most=10)
    volume.on_hosts.update(seen_facts={})
    Allocation.objects.create(
        resource_type="volume", resource_id=uuid.uuid4(), host=host, disk_gib=Host.objects.get().free_disk_gib
    )
    with pytest.raises(NoRoom, match="second copy"):
        flatten(volume)
    assert not Operation.objects.filter(finished_at=None).exists()
    assert not Layer.objects.exclude(merges=[]).exists()


def test_by_the_clock_one_volume_of_each_host_is_merged(cloud, monkeypatch):
    monkeypatch.setattr(django_settings, "VOLUME_MAX_LAYERS", 3)
    flat, one, two = deep(cloud, 3), deep(cloud), deep(cloud)
    assert flattening.run_due() == 1
    assert flattening.run_due() == 0, "the host is busy"
    settle(cloud)
    assert flattening.run_due() == 1
    settle(cloud)
    assert flattening.run_due() == 0
    assert [len(chain(volume)) for volume in (flat, one, two)] == [3, 2, 2]
    for volume in (flat, one, two):
        require_nothing_left(cloud, volume)


def test_what_was_cancelled_is_tried_again_a_day_later(cloud, monkeypatch):
    monkeypatch.setattr(django_settings, "VOLUME_MAX_LAYERS", 3)
    volume = deep(cloud)
    assert flattening.run_due() == 1
    operation = Operation.objects.get(finished_at=None)
    with transaction.atomic():
        engine.cancel(operation.pk, actor=ALICE)
    settle(cloud)
    assert flattening.run_due() == 0
    Operation.objects.filter(pk=operation.pk).update(finished_at=Now() - 2 * flattening.TRY_AGAIN)
    assert flattening.run_due() == 1
    settle(cloud)
    assert len(chain(volume)) == 2


def test_a_merge_has_to_be_worth_it_unless_the_limit_is_near(cloud, monkeypatch):
    """It copies all that its layers have."""
    volume = deep(cloud, 9)
    for place in (2, 5):  # so that two layers at most follow each other
        layer = Layer.objects.get(pk=chain(volume)[place])
        Snapshot.objects.create(
            project=cloud.project, volume=volume, name=f"kept-{place}", layer=layer, size_gib=1, consistency="crash"
        )
    monkeypatch.setattr(django_settings, "VOLUME_MAX_LAYERS", 8)
    with pytest.raises(WrongState, match="too few"):
        do(flattening.flatten, volume=volume)
    monkeypatch.setattr(trees, "MAX_DEPTH", 8)
    do(flattening.flatten, volume=volume)
    settle(cloud)
    assert len(chain(volume)) == 8
    require_nothing_left(cloud, volume)


def test_a_refusal_at_the_limit_names_the_ways_out(cloud, monkeypatch):
    volume = deep(cloud)
    monkeypatch.setattr(trees, "MAX_DEPTH", 4)
    with pytest.raises(WrongState, match=r"Delete snapshots.* restore the backup to it"):
        do(volumes.snapshot, volume=volume, name="one-more")
    flatten(volume)
    settle(cloud)
    do(volumes.snapshot, volume=volume, name="one-more")
    settle(cloud)
    assert Snapshot.objects.get().consistency


def test_how_far_it_is_is_shown(cloud):
    volume = deep(cloud)
    operation = flatten(volume)
    layer = Layer.objects.exclude(merges=[]).get()

    def tell(body):
        node = cloud.node
        return node._request("PUT", f"/agent/v1/merges/{layer.pk}/progress", body, node.token)[0]

    assert tell({"percent": 40}) == 204
    assert tell({"percent": 101}) in (400, 422)
    operation.refresh_from_db()
    assert (operation.progress_done, operation.progress_of, operation.progress_unit) == (40, 100, "%")
    settle(cloud)
    assert tell({"percent": 50}) == 404
    assert path(cloud, volume).exists()
