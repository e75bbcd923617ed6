"""Volumes, and images and backups in the making, as kinds of resources on hosts."""

from typing import Any

from cloud.hosts.models import Host
from cloud.hosts.resources import HostedResource, register
from cloud.hosts.shapes import Maybe, Whole, count, faults, uuid
from storage import files, hosting, importing, losing, moving, peers, reconcile, specs
from storage.models import ImageImport, Layer, TransferOnHost, VolumeOnHost
from storage.models.hosted import PRESENT

FOUND = {
    "disks": [{}],
    "machine": Maybe({name: Maybe(count) for name in ("cpus", "memory_mib", "nics")}),
    "notes": [str],
}


def lies_on(host: Host, sha256: str) -> bool:
    """Whether a volume that is on the host lies on this file of an image."""
    return Layer.objects.filter(host=host, base__sha256=sha256).exists()


def found(value: Any) -> None:
    """What is inside an image, or words of what is on a backup."""
    if isinstance(value, list):
        return
    if next(faults(value, FOUND, ""), None):
        raise ValueError


files.register(lies_on)
files.register(importing.may_read)
register(
    HostedResource(
        type=hosting.VOLUME,
        model=VolumeOnHost,
        within="volume",
        states=frozenset({PRESENT}),
        spec=specs.volume,
        noticed=hosting.noticed,
        reconcile=reconcile.volumes,
        lose=losing.volume,
        at_stake=losing.at_stake,
        related=("volume__active", "volume__project", "volume__type"),
        project="volume__project_id",
        facts={
            "layers": [uuid],
            "used_bytes": Maybe(count),
            "served": Maybe(Whole({"id": uuid, "host": str, "port": count})),
        },
    )
)
register(
    HostedResource(
        type=importing.IMAGE,
        model=ImageImport,
        states=frozenset({PRESENT}),
        spec=importing.spec,
        noticed=importing.noticed,
        reconcile=importing.reconcile,
        lose=losing.image,
        offers=importing.offers,
        described=peers.noticed,
        related=("image__project", "image__upload", "export__project", "backup__project", "backup__volume__active"),
        project="image__project_id",
        unit="import",
        is_work=True,
        facts={
            "files": [{"index": count, "sha256": str, "size": count, "virtual_bytes": Maybe(count)}],
            "found": found,
        },
    )
)
register(
    HostedResource(
        type=moving.TRANSFER,
        model=TransferOnHost,
        within="transfer",
        states=frozenset({PRESENT}),
        spec=specs.transfer,
        noticed=moving.noticed,
        reconcile=moving.reconcile,
        lose=losing.transfer,
        related=("transfer",),
        project="transfer__project_id",
        is_work=True,
    )
)
