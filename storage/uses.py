"""What is made of images: while there is anything, an image is not deleted. Apps register what they made of them."""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from django.db.models import QuerySet

from cloud.uses import Use, refuse_if_used
from storage.models import Image, Volume

MAX_ASKED = 11  # one more than are named
OF_OTHERS = "What other projects made of it, they alone can delete. Deprecate it, so that nothing new is made of it."

# Of these rows one needs `pk`, `name`, `project_id` and `trashed_at`.
Find = Callable[[Image], "QuerySet[Any]"]
_users: dict[str, Find] = {"volume": lambda image: Volume.objects.filter(image=image)}


def register_user(kind: str, find: Find) -> None:
    """An app's say: what of it was made of an image."""
    _users[kind] = find


def refuse_deletion(image: Image) -> None:
    """Raises InUse, naming what uses it: of other projects only how many, unless the image is the cloud's own."""
    made = {kind: find(image) for kind, find in _users.items()}
    elsewhere = 0
    if image.project_id is not None:
        elsewhere = sum(rows.exclude(project=image.project_id).count() for rows in made.values())
        made = {kind: rows.filter(project=image.project_id) for kind, rows in made.items()}
    uses = chain.from_iterable(_named(kind, rows) for kind, rows in made.items())
    refuse_if_used(image, uses, elsewhere=elsewhere, hint=OF_OTHERS if elsewhere else "Delete these first.")


def _named(kind: str, rows: "QuerySet[Any]") -> Iterable[Use]:
    for one in rows.order_by("name")[:MAX_ASKED]:
        yield Use(kind, str(one.pk), f"{one.name} in the trash" if one.trashed_at else one.name)
