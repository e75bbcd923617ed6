"""Finding rows for pages: by a word that was typed, or by an id in a path."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from cloud.api.errors import NotFound
from cloud.api.fields import as_uuid


def search(rows: "QuerySet[Any]", text: str) -> "QuerySet[Any]":
    """The rows whose name contains the text, or whose id it is."""
    text = text.strip()[:255].replace("\x00", "")
    ident = as_uuid(text)
    if ident:
        return rows.filter(pk=ident)
    return rows.filter(name__icontains=text) if text else rows


def find(rows: "QuerySet[Any]", ident: UUID | str, gone: str = "") -> Any:
    """The row with this id. Raises NotFound, with the words `gone` if there are any, when the viewer may see none."""
    key = as_uuid(str(ident))
    found = rows.filter(pk=key).first() if key else None
    if found is None:
        raise NotFound(gone) if gone else NotFound()
    return found
