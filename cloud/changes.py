"""How a row is changed: some of its fields, under its lock."""

from collections.abc import Mapping
from typing import Any, TypeVar

from django.db.models import Model

M = TypeVar("M", bound=Model)


def change(row: M, changes: Mapping[str, Any]) -> tuple[M, dict[str, Any]]:
    """Set the fields of a row. Returns the row as it is now, and what those fields were before."""
    locked = type(row)._base_manager.select_for_update(no_key=True).get(pk=row.pk)
    before = {field: getattr(locked, field) for field in changes}
    for field, value in changes.items():
        setattr(locked, field, value)
    locked.save(update_fields=list(changes) or None)
    return locked, before
