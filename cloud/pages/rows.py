"""Finding rows for pages: by a word that was typed, or by an id in a path."""

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet

from cloud.api.fields import as_uuid
from cloud.problems import NotFound


def search(rows: "QuerySet[Any]", text: str, columns: Sequence[str] = ("name",)) -> "QuerySet[Any]":
    """The rows of which one of the columns contains the text, or whose id it is."""
    text = text.strip()[:255].replace("\x00", "")
    ident = as_uuid(text)
    if ident:
        return rows.filter(pk=ident)
    found = Q()
    for column in columns:
        found |= Q(**{f"{column}__icontains": text})
    return rows.filter(found) if text else rows


def find(rows: "QuerySet[Any]", ident: Any, gone: str = "", *, by: str = "pk") -> Any:
    """The row with this id. Raises NotFound, with the words `gone` if there are any, when there is none among them."""
    try:
        found = rows.filter(**{by: ident}).first()
    except (ValueError, ValidationError):  # it is no id at all
        found = None
    if found is None:
        raise NotFound(gone) if gone else NotFound()
    return found
