"""For every operation of the API about volumes a request that succeeds: a part of tests/good_requests.py."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from django.db.models.functions import Now

from cloud.hosts.models import Host
from cloud.tenancy.models import Project
from storage import hosting
from storage.models import Backup, Layer, Snapshot, Volume, VolumeType
from storage.services import policies, trash, volume_types, volumes
from tests import factories
from tests.storage.clouds import kind_of, second


def volume(world: Any) -> Volume:
    return volumes.create(project=world.project, actor=world.actor, name=factories.name("data"), size_gib=1)


def snapshot(world: Any, of: Volume | None = None) -> Snapshot:
    """One that has been taken."""
    from tests.good_requests import finish

    taken = volumes.snapshot(volume=of or volume(world), actor=world.actor, name=factories.name("snap"))
    finish("volume")
    return Snapshot.objects.get(pk=taken.pk)


def volume_type(world: Any) -> VolumeType:
    return volume_types.create(actor=world.actor, wished={"name": factories.name("type"), "iops": 500})


def _revert(world: Any) -> dict[str, Any]:
    """`{ref}` was made just before."""
    [made] = [name for route, name in world.made.items() if route.endswith("/revert")]
    return {"snapshot": snapshot(world, Volume.objects.get(project=world.project, name=made)).name}


def trashed(world: Any) -> Volume:
    return trash.discard(volume=volume(world), actor=world.actor)


def on_a_host_with_images(world: Any) -> Snapshot:
    """A snapshot that an image can be made of."""
    taken = snapshot(world)
    host = factories.host(capabilities={"images": {"capture": True}})
    Layer.objects.filter(tree=taken.layer.tree).update(host=host)
    return taken


def backup(project: Project) -> Backup:
    """One that can be restored, of a volume that is gone."""
    return Backup.objects.create(
        project=project, name=factories.name("backup"), of={"id": str(uuid4()), "name": "data"}, size_gib=1,
        status=Backup.Status.READY, finished_at=Now(), created_by="mia", consistency="crash",
    )  # fmt: skip


def _restore_backup(world: Any) -> dict[str, Any]:
    """One of the volume that was made just before."""
    [name] = [name for route, name in world.made.items() if route.endswith("/restore-backup")]
    of = Volume.objects.get(project=world.project, name=name)
    made = backup(world.project)
    Backup.objects.filter(pk=made.pk).update(volume=of)
    return {"backup": made.name, "snapshot": factories.name("before")}


def on_a_host_with_backups(world: Any) -> Volume:
    """A volume that can be backed up."""
    made = volume(world)
    host = factories.host(capabilities={"images": {"backup": True}})
    Layer.objects.filter(tree=made.active.tree).update(host=host)
    return made


def volume_on_a_host_with_images(world: Any) -> Volume:
    """One that an image can be made of."""
    made = volume(world)
    host = factories.host(capabilities={"images": {"capture": True}, "volumes": {"layers": True}})
    Layer.objects.filter(tree=made.active.tree).update(host=host)
    return made


def beside_a_host(world: Any) -> Volume:
    """A volume that is on a node, and another node."""
    kind_of(world.cloud)
    second(world.cloud)
    made = volume(world)
    hosting.connect(made, Host.objects.get(name="node1"))
    world.cloud.settle()
    world.cloud.settle()
    return made


def scheduled(world: Any) -> Volume:
    rules = {"schedule": "0 3 * * *", "time_zone": "UTC", "keep_daily": 7}
    return policies.set_policy(volume=volume(world), actor=world.actor, **rules)


VERBS_NEED: Mapping[str, Callable[[Any], object]] = {
    "volumes/restore": trashed,
    "volumes/purge": trashed,
    "volumes/backup": on_a_host_with_backups,
    "volumes/unschedule-backups": scheduled,
    "snapshots/create-image": on_a_host_with_images,
    "volumes/move": beside_a_host,
    "volumes/create-image": volume_on_a_host_with_images,
}
REFERENCES: Mapping[str, Callable[[Any], object]] = {
    "snapshots": snapshot,
    "volumes": volume,
    "volume-types": volume_type,
    "backups": lambda world: backup(world.project),
}
BODIES: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "POST volumes": lambda world: {"name": "data", "size_gib": 2},
    "PATCH volumes": lambda world: {"labels": {"for": "web"}},
    "POST volumes/resize": lambda world: {"size_gib": 2},
    "POST volumes/retype": lambda world: {"type": volume_type(world).name},
    "POST volume-types": lambda world: {"name": factories.name("type"), "mib_per_second": 100, "price_per_gib_hour": 1},
    "PATCH volume-types": lambda world: {"iops": 1000, "projects": [world.project.name]},
    "POST volumes/snapshot": lambda world: {"name": "before-upgrade"},
    "POST volumes/clone": lambda world: {"name": factories.name("copy")},
    "POST volumes/revert": _revert,
    "POST volumes/restore-backup": _restore_backup,
    "POST volumes/backup": lambda world: {"name": factories.name("backup")},
    "POST volumes/schedule-backups": lambda world: {"schedule": "0 3 * * *", "keep_daily": 7},
    "POST backups/restore": lambda world: {"name": factories.name("restored")},
    "PATCH backups": lambda world: {"protected": True},
    "POST snapshots/create-image": lambda world: {"name": factories.name("image")},
    "POST volumes/create-image": lambda world: {"name": factories.name("image")},
    "PATCH snapshots": lambda world: {"protected": True},
}
