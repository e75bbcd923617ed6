"""What is made of images: while there is anything, an image is not deleted. Apps register what they made of them."""

from collections.abc import Callable, Iterable

from cloud.uses import Use, refuse_if_used
from storage.models import Image, Volume

MAX_ASKED = 11  # one more than are named

_users: list[Callable[[Image], Iterable[Use]]] = []


def register_user(find: Callable[[Image], Iterable[Use]]) -> None:
    """An app's say: what of it was made of an image, the first MAX_ASKED."""
    _users.append(find)


def refuse_deletion(image: Image) -> None:
    """Raises InUse, naming what uses it."""
    made = Volume.objects.filter(image=image).order_by("name")[:MAX_ASKED]
    uses = [Use("volume", str(one.pk), f"{one.name} in the trash" if one.trashed_at else one.name) for one in made]
    refuse_if_used(image, [*uses, *(one for find in _users for one in find(image))], hint="Delete these first.")
