"""For every operation of the API about images a request that succeeds: a part of tests/good_requests.py."""

from collections.abc import Callable, Mapping
from typing import Any

from storage.models import Image
from storage.services import images
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


REFERENCES: Mapping[str, Callable[[Any], object]] = {"images": lambda world: own(world).name}
VERBS_NEED: Mapping[str, Callable[[Any], object]] = {
    "images/file": lambda world: waiting(world).name,
    "images/unshare": lambda world: shared(world).name,
}
BODIES: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "POST images": lambda world: {"name": factories.name("image"), "source": {"kind": "upload", "size": 1000}},
    "PATCH images": lambda world: {"description": "mine", "nic_bus": "e1000", "protected": True},
    "POST images/share": lambda world: {"project": factories.project().name},
    "POST images/unshare": lambda world: {"project": world.friend.name},
    "POST images/publish": lambda world: {"public": True},
}
