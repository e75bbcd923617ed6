"""How every kind of operation on a volume comes about."""

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID, uuid4

from django.db.models.functions import Now

from agent.entries import Entry
from agent.errors import Refused
from agent.kinds import Kind, Sight
from agent.work import Work
from cloud.hosts.models import Allocation, HostPulse
from storage.agent.blocks import BLOCKS_IN_PART
from storage.models import Backup, BackupPart, Image, Layer, Snapshot, Transfer, Volume, VolumeOnHost, VolumeType
from storage.services import backups, captures, moving, retyping, taking, volume_types, volumes
from tests import factories
from tests.clouds import SmallCloud
from tests.scenarios import Scenario, after
from tests.storage.clouds import deep, do, files, flatten, kind_of, placed, second, settle
from tests.storage.image_scenarios import back_up, on_the_host


class Volumes:
    """Volumes as subjects: what is there has its files and its room."""

    def seen(self, subject_id: UUID) -> str | None:
        if not Volume.objects.filter(pk=subject_id).exists():
            return None
        row = VolumeOnHost.objects.filter(volume=subject_id).first()
        return row.seen if row else "nowhere"

    def delete(self, cloud: SmallCloud, subject_id: UUID) -> None:
        do(volumes.delete, volume=Volume.objects.get(pk=subject_id), cascade=True)

    def check(self, cloud: SmallCloud, subject_id: UUID) -> None:
        is_there = self.seen(subject_id) == "present"
        assert Allocation.of("volume", subject_id).exists() == is_there
        volume = Volume.objects.filter(pk=subject_id).first()
        assert volume is None or volume.next_id is None
        assert volume is None or (str(volume.active_id) in files(cloud)) == is_there


class MovingVolumes(Volumes):
    """They have files on the host where they are, and nothing on another one."""

    def check(self, cloud: SmallCloud, subject_id: UUID) -> None:
        volume = Volume.objects.filter(pk=subject_id).first()
        rooms = Allocation.of("volume", subject_id).values_list("host__name", flat=True)
        where = [volume.active.host.name] if volume else []
        assert list(rooms) == where
        for node, host in zip(cloud.nodes, ("node1", "node2"), strict=True):
            there = set(node.kinds["volume"].layers.there())
            assert there == {str(one.pk) for one in Layer.objects.filter(host__name=host)}, host
            assert list(node.kinds["transfer"].strangers()) == []
        assert not Transfer.objects.exists()


def beside_a_host(cloud: SmallCloud) -> Volume:
    """A volume with a snapshot, and another host."""
    second(cloud)
    return with_snapshot(cloud)


def silence(cloud: SmallCloud) -> None:
    """Nothing is heard of the first node any more, and nobody waits long for its beat."""
    cloud.nodes[0].online = False
    HostPulse.objects.filter(host__name="node1").update(seen_at=Now() - timedelta(hours=1))
    cloud.nodes[1].kinds["volume"].layers.fences.seconds_until_dead = 0.1


def disk_image(cloud: SmallCloud) -> Image:
    """With a disk that all nodes have in their caches."""
    content = bytes(1 << 20)
    sha256 = hashlib.sha256(content).hexdigest()
    for node in cloud.nodes:
        (node.paths.home / "images" / sha256).write_bytes(content)
    file = {"role": "disk", "index": 0, "sha256": sha256, "size": len(content), "format": "raw"}
    return factories.image(files=[{**file, "virtual_bytes": len(content)}])


def share_folder(cloud: SmallCloud) -> VolumeType:
    """Two nodes share a folder; the type of the volumes in it."""
    kind_of(cloud)
    second(cloud)
    folder = cloud.home / "export"
    if not folder.exists():
        folder.mkdir()
        (folder / ".pileus-pool").write_text(str(uuid4()))
        for node in cloud.nodes:
            (node.paths.home / "pools").mkdir()
            (node.paths.home / "pools" / "nfs").symlink_to(folder)
    for node in cloud.nodes:
        node.online = True
        node.heartbeat()
    pool = UUID((folder / ".pileus-pool").read_text())
    made: VolumeType = do(volume_types.create, wished={"name": factories.name("shared"), "pool": pool})
    return made


def on_a_silent_host(cloud: SmallCloud) -> Volume:
    volume = placed(cloud, type=share_folder(cloud))
    silence(cloud)
    return volume


class SharedVolumes(Volumes):
    """They are on one host; one that is not heard of keeps its room until it is."""

    def seen(self, subject_id: UUID) -> str | None:
        if not Volume.objects.filter(pk=subject_id).exists():
            return None
        return VolumeOnHost.objects.get(volume=subject_id, wanted=True).seen

    def check(self, cloud: SmallCloud, subject_id: UUID) -> None:
        cloud.nodes[0].online = True
        settle(cloud)
        assert set(VolumeOnHost.objects.values_list("host__name", flat=True)) <= {"node2"}
        assert set(Allocation.of("volume", subject_id).values_list("host__name", flat=True)) <= {"node2"}


def with_clone(cloud: SmallCloud) -> Volume:
    """A volume that shares what is on it with a clone, which has a later id, and another host."""
    second(cloud)
    volume = placed(cloud)
    do(volumes.clone, volume=volume, name=factories.name("copy"))
    settle(cloud)
    return Volume.objects.get(pk=volume.pk)


def with_snapshot(cloud: SmallCloud) -> Volume:
    volume = placed(cloud)
    do(volumes.snapshot, volume=volume, name=factories.name("snap"))
    settle(cloud)
    return Volume.objects.get(pk=volume.pk)


class NoImages(Kind):
    """Makes no images: what becomes of them is not the volume's business."""

    type = "image"
    verbs: ClassVar[dict[str, str]] = {"ensure_present": "present", "ensure_gone": "gone"}

    def obey(self, verb: str, entry: Entry, work: Work) -> Sight:
        if verb == "ensure_present":
            raise Refused("no images are made here")
        return "gone", {}

    def capabilities(self) -> dict[str, Any]:
        return {"images": {"capture": True}}


def make_images(cloud: SmallCloud) -> None:
    """From now on the node is asked for images."""
    if "image" not in cloud.node.kinds:
        cloud.node.tools.add(NoImages())
        cloud.node.heartbeat()


def beside_images(cloud: SmallCloud) -> Volume:
    volume = placed(cloud)
    make_images(cloud)
    return volume


def with_backup(cloud: SmallCloud) -> Volume:
    """One with a backup that is full of zeros."""
    volume = placed(cloud)
    facts: dict[str, Any] = {"volume": volume, "of": {"id": str(volume.pk), "name": volume.name}, "created_by": "mia"}
    made = Backup.objects.create(
        project=volume.project, name=factories.name("backup"), size_gib=1, status=Backup.Status.READY,
        finished_at=Now(), **facts,
    )  # fmt: skip
    BackupPart.objects.create(backup=made, number=0, run=uuid4(), digests=[""] * BLOCKS_IN_PART)
    return volume


def snapshot_of(volume: Volume) -> Snapshot:
    return Snapshot.objects.get(volume=volume)


def move(cloud: SmallCloud, there: Volume) -> None:
    do(moving.move, volume=there)


def scenario(
    kind: str, prepare: Callable[[SmallCloud], Any], begin: Callable[[SmallCloud, Any], object], **facts: Any
) -> Scenario:
    facts.setdefault("after", after("present", otherwise="present"))
    subjects = facts.pop("subjects", Volumes())
    return Scenario(f"storage.{kind}", subjects, prepare, begin, **facts)


SCENARIOS = [
    scenario("copy_volume", on_the_host, back_up, after=after("nowhere", otherwise="nowhere")),
    scenario(
        "create_volume", with_snapshot,
        lambda cloud, there: do(
            volumes.create, project=cloud.project, name=factories.name("copy"), snapshot=snapshot_of(there)
        ),
        after=after("present", otherwise="nowhere"),
    ),
    scenario("resize_volume", placed, lambda cloud, there: do(volumes.resize, volume=there, size_gib=2)),
    scenario(
        "retype_volume", placed, lambda cloud, there: do(retyping.retype, volume=there, type=volume_types.default())
    ),
    scenario(
        "snapshot_volume", placed, lambda cloud, there: do(volumes.snapshot, volume=there, name=factories.name("snap"))
    ),
    scenario(
        "clone_volume", placed, lambda cloud, there: do(volumes.clone, volume=there, name=factories.name("copy"))
    ),
    scenario(
        "capture_volume", beside_images,
        lambda cloud, there: do(captures.of_volume, volume=there, name=factories.name("image")),
    ),
    scenario(
        "revert_volume", with_snapshot,
        lambda cloud, there: do(volumes.revert, volume=there, snapshot=snapshot_of(there)),
    ),
    scenario("move_volume", beside_a_host, move, subjects=MovingVolumes()),
    scenario("move_along", with_clone, move, subjects=MovingVolumes()),
    scenario(
        "take_over", on_a_silent_host, lambda cloud, there: do(taking.take_it_over, volume=there),
        subjects=SharedVolumes(),
    ),
    scenario(
        "restore_backup", with_backup,
        lambda cloud, there: do(backups.restore_over, volume=there, backup=there.backups.get()),
    ),
    scenario("flatten_volume", deep, lambda cloud, there: flatten(there)),
    scenario(
        "delete_volume", placed, lambda cloud, there: do(volumes.delete, volume=there),
        after=after(None, otherwise="present"), deleted="done",
    ),
]  # fmt: skip
