"""What volumes are attached to. Storage knows no machines: the app that has some registers them (decision 14)."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from cloud.operations.workflow import Topic
from storage.models import Attachment, Snapshot


@dataclass(frozen=True)
class HolderKind:
    """One type of holder, by its id.

    `tell(id)`: its volumes have changed; its host is ordered to see to that, if it is on one. `pending(id)`: what to
    wait for until that has happened; None when there is nothing to wait for; raises Refused when it will not happen.
    `consistency(id, volume_id)`: what a snapshot is worth that was taken under it. `rests(id)`: whether it has nothing
    open, and opens nothing before this transaction ends: then what is on its volumes may be replaced.
    `replaces_layers(id)`: whether it can take others that have the same in place of what its volumes stand on, also
    while it runs. `lose_root(id)`: what it boots from, its slot 0, is lost for good.
    `is_given_up(id)`: whether it is lost with what is lost just now, so that what was made for it goes, too.
    """

    type: str
    tell: Callable[[UUID], None]
    pending: Callable[[UUID], Topic | None]
    consistency: Callable[[UUID, UUID], str] = lambda holder_id, volume_id: Snapshot.Consistency.CRASH
    rests: Callable[[UUID], bool] = lambda holder_id: False
    replaces_layers: Callable[[UUID], bool] = lambda holder_id: False
    lose_root: Callable[[UUID], None] = lambda holder_id: None
    is_given_up: Callable[[UUID], bool] = lambda holder_id: False


_kinds: dict[str, HolderKind] = {}


def register(kind: HolderKind) -> None:
    _kinds[kind.type] = kind


def kind_of(holder_type: str) -> HolderKind:
    """Raises KeyError for a type that nobody has registered."""
    return _kinds[holder_type]


def replaces_layers(held: Attachment) -> bool:
    """Whether what a volume is attached to can take others in place of what it stands on."""
    return kind_of(held.holder_type).replaces_layers(held.holder_id)
