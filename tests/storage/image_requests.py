"""For every operation of the API about images a request that succeeds: a part of tests/good_requests.py."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.db.models.functions import Now

from storage.models import Image, ImageExport
from storage.services import images, trash
from storage.store import store
from tests import factories


def own(world: Any) -> Image:
    return factories.image(project=world.project)


def waiting(world: Any) -> Image:
    """One that waits for its content."""
    source = {"kind": "upload"}
    return images.begin(project=world.project, actor=world.actor, name=factories.name("image"), source=source)


def shared(world: Any) -> Image:
    """One that is shared with `world.friend`."""
    world.friend, image = factories.project(), own(world)
    return images.share(image=image, actor=world.actor, project=world.friend)


def with_disk(world: Any) -> Image:
    """One that can be exported."""
    file = {"role": "disk", "index": 0, "sha256": "a" * 64, "size": 1, "format": "qcow2", "virtual_bytes": 1 << 30}
    return factories.image(project=world.project, files=[file])


def exported(world: Any) -> ImageExport:
    """An export that is ready, with its file."""
    content = b"all of it"
    sha256 = hashlib.sha256(content).hexdigest()
    store().folder.mkdir(parents=True, exist_ok=True)
    (store().folder / sha256).write_bytes(content)
    return ImageExport.objects.create(
        project=world.project, name=factories.name("file"), format="vdi", sources=[], size_gib=1, created_by="mia",
        image={"id": str(uuid4()), "name": "guest", "version": ""}, status=ImageExport.Status.READY,
        files=[{"sha256": sha256, "size": len(content)}], expires_at=Now() + timedelta(hours=1),
    )  # fmt: skip


REFERENCES: Mapping[str, Callable[[Any], object]] = {
    "images": lambda world: own(world).name,
    "exports": exported,
}
VERBS_NEED: Mapping[str, Callable[[Any], object]] = {
    "images/export": lambda world: with_disk(world).name,
    "images/restore": lambda world: trash.discard_image(image=own(world), actor=world.actor).name,
    "images/purge": lambda world: trash.discard_image(image=own(world), actor=world.actor).name,
    "images/file": lambda world: waiting(world).name,
    "images/unshare": lambda world: shared(world).name,
}
BODIES: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "POST images": lambda world: {"name": factories.name("image"), "source": {"kind": "upload", "size": 1000}},
    "PATCH images": lambda world: {"description": "mine", "nic_bus": "e1000", "protected": True},
    "POST images/export": lambda world: {"format": "ova"},
    "POST images/share": lambda world: {"project": factories.project().name},
    "POST images/unshare": lambda world: {"project": world.friend.name},
    "POST images/publish": lambda world: {"public": True},
}
