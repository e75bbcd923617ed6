"""How far work has come, as somebody else than its steps notices: a host, between two reports."""

from uuid import UUID

from cloud.operations.models import Operation


def note(subject_type: str, subject_id: UUID, *, reason: str, done: int, of: int | None, unit: str) -> None:
    """Say it of the live operation on a resource, unless it is already decided how that ends. Loses to a step."""
    live = Operation.objects.filter(subject_type=subject_type, subject_id=subject_id, finished_at=None, outcome="")
    live.update(reason=reason, progress_done=done, progress_of=of, progress_unit=unit if of is not None else "")
