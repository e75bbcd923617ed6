"""What hosts are told of volumes, rendered when an order is claimed."""

from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from cloud.queries import Prepared
from storage.models import Attachment, Layer, Snapshot, Transfer, TransferOnHost, Volume, VolumeOnHost
from storage.models.types import PoolKind
from storage.trees import Tree, tree_of


def volume(row: VolumeOnHost, verb: str) -> dict[str, Any]:
    """All of a volume: the layers that it stands on, and those of the same tree that others need, too."""
    what = row.volume
    tree = tree_of(what)
    kept = tree.kept_for_others(what, its_snapshots=verb != "ensure_gone")
    if verb == "ensure_gone" and row.host_id != what.active.host_id:
        # A tree is on one host: all of it leaves this one, or has not come here. In a pool it stays for the others.
        kept = set(tree.layers) if what.active.pool else set()
    own = _own(what, tree, kept)
    return {
        "id": str(what.pk),
        "volume": {
            "id": str(what.pk),
            "name": what.name,
            "project": {"id": str(what.project_id), "name": what.project.name},
        },
        "size_gib": what.size_gib,
        "tree": str(tree.id),
        **_place(what, arrives=row.wanted and row.host_id != what.active.host_id),
        "layers": [_layer(layer) for layer in own],
        "active": str(what.active_id),
        "keep": sorted(str(pk) for pk in kept),
        "held": what.attachments.exists(),
        "serve": _serve(what) if verb != "ensure_gone" else None,
        "arrivals": _arrivals(row, tree),
        **(_in_ceph(what, tree, own, kept) if what.active.rbd else {}),
    }


def _in_ceph(what: Volume, tree: Tree, own: list[Layer], kept: set[UUID]) -> dict[str, Any]:
    """The images of all these layers, which of them nobody writes any more, and which of those this volume sees to."""
    snapshots = Snapshot.objects.filter(volume=what).values_list("layer", flat=True)
    told = {layer.pk: layer for layer in (*own, *(tree.layers[pk] for pk in kept))}
    sealed = {pk for pk, layer in told.items() if layer.sealed_at}
    return {
        "images": {str(pk): str(layer.rbd) for pk, layer in told.items()},
        "sealed": sorted(str(pk) for pk in sealed),
        "to_keep": sorted(str(pk) for pk in sealed.intersection({*(layer.pk for layer in own), *snapshots})),
    }


def _serve(what: Volume) -> dict[str, Any] | None:
    """Whom its host serves it to, if machines have it over the network."""
    held = what.attachments.first() if what.type.is_served else None
    return {"id": str(held.pk), "key": held.key, "read_only": held.read_only} if held else None


def _arrivals(row: VolumeOnHost, tree: Tree) -> dict[str, Any] | None:
    """The transfer that has brought the layers of the tree to this host, if it comes from another one."""
    if row.host_id == row.volume.active.host_id:
        return None
    open_ones = Transfer.objects.filter(target=row.host_id, outcome="", files__contains=[{"id": str(tree.id)}])
    transfer = open_ones.first()
    if transfer is None:
        return None
    layers = [file["name"] for file in transfer.copied if file["id"] == str(tree.id)]
    return {"transfer": str(transfer.pk), "tree": str(tree.id), "layers": layers}


def transfer(row: TransferOnHost, verb: str) -> dict[str, Any]:
    """What one end of a transfer sends or receives."""
    if verb == "ensure_gone":
        return {"id": str(row.transfer_id)}
    role = "send" if row.sends else "receive"
    return {"id": str(row.transfer_id), "role": role, "files": row.transfer.copied}


def _place(what: Volume, *, arrives: bool = False) -> dict[str, Any]:
    """The place that several hosts reach, if a volume is in one: the pool of a Ceph cluster, or a shared folder, and
    whose it is there. What only arrives becomes its host's with the next term."""
    active = what.active
    if not active.pool:
        return {"pool": None, "ceph": None}
    in_ceph = what.type.in_ceph
    taken_from = [str(name) for name in active.taken_from]
    return {
        "pool": None if in_ceph else str(active.pool), "ceph": str(active.pool) if in_ceph else None,
        "tree": str(active.tree), "term": active.term + arrives, "taken_from": taken_from,
    }  # fmt: skip


def _own(what: Volume, tree: Tree, kept: set[UUID]) -> list[Layer]:
    """Its chain, and the layer that is to take over: one more on top, or on another branch after a revert.

    After a restore its snapshots may lie on the file of an image that its chain does not: the host keeps the file of
    every layer that is named here.
    """
    if what.active.rbd:
        return tree.of(what)  # there all content is a copy
    kept_files = [layer for layer in tree.layers.values() if layer.base and layer.pk in kept]
    return list(dict.fromkeys([*tree.of(what), *kept_files]))


def _layer(layer: Layer) -> dict[str, Any]:
    return {
        "id": str(layer.pk),
        "parent": str(layer.parent_id) if layer.parent_id else None,
        "rbd": str(layer.rbd) if layer.rbd else None,
        "image": layer.base,
        "backup": {"id": str(layer.backup_id), "size_gib": layer.backup.size_gib} if layer.backup else None,
        "merge": [str(pk) for pk in layer.merges] or None,
        "size_bytes": layer.size_gib << 30,
        "made": layer.made,
    }


def _image(chain: list[Layer]) -> dict[str, Any]:
    """In Ceph: the image that is written, and the layer that is to be kept of it before its guest writes on, if one
    is."""
    below, active = chain[-2:] if len(chain) > 1 else (None, chain[-1])
    goes_on = below is not None and below.rbd == active.rbd and below.sealed_at is None
    return {"rbd": str(active.rbd), "keeps": str(below.pk) if below and goes_on else None}


def disks(holder_type: str, holder_id: UUID, host_id: UUID) -> list[dict[str, Any]]:
    """The volumes in the spec of the machine that holds them, by their slots; none that is on another host yet."""
    return [_disk(one) for one in _held_here.rows(holder_type, holder_id, host_id)]


@Prepared
def _held_here(holder_type: Any, holder_id: Any, host_id: Any) -> "QuerySet[Attachment]":
    held = Attachment.objects.filter(holder_type=holder_type, holder_id=holder_id, wanted=True)
    here = Q(volume__active__host=host_id) | Q(volume__active__host=None)
    held = held.filter(here | Q(volume__type__pool_kind=PoolKind.NBD))
    return held.select_related("volume__active", "volume__type").order_by("slot")


def _disk(one: Attachment) -> dict[str, Any]:
    what = one.volume
    disk = {
        "id": str(what.pk),
        "slot": one.slot,
        "serial": what.serial,
        "read_only": one.read_only,
        "boot": one.slot == 0,
        "size_bytes": what.size_gib << 30,
        "limits": what.type.limits,
    }
    if what.type.is_served:  # as one disk, whatever it stands on
        return disk | {"chain": [str(one.pk)], "base_image": None, "served": _served(one)}
    chain = tree_of(what).chain(what.active_id)
    return disk | {
        "chain": [str(layer.pk) for layer in chain],
        **(_image(chain) if what.active.rbd else {}),
        "base_image": chain[0].base,
        **_place(what),
    }


def _served(one: Attachment) -> dict[str, Any] | None:
    """Where its storage host serves it, as that said last; None: not to this attachment yet."""
    rows = VolumeOnHost.objects.filter(volume=one.volume, host=one.volume.active.host_id)
    place = rows.values_list("seen_facts__served", flat=True).first()
    return {**place, "key": one.key} if place and place["id"] == str(one.pk) else None
