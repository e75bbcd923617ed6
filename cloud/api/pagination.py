"""Lists: a page after a cursor, in one query. Nothing is counted, nothing skipped over: any page costs the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.core import signing
from django.core.exceptions import ValidationError as BadValue
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, QueryDict
from rest_framework import serializers
from rest_framework.request import Request

from cloud.api.addresses import absolute
from cloud.api.fields import MAX_KEY, MAX_LABELS, MAX_VALUE
from cloud.problems import Fault, Invalid

DEFAULT_LIMIT, MAX_LIMIT = 50, 500
PAGING = ("limit", "cursor")


@dataclass(frozen=True)
class Filter:
    """An exact filter: the form of its value, and the ORM lookup that it means (its own name, when left out)."""

    field: serializers.Field
    lookup: str = ""


@dataclass
class Page:
    rows: list[Any]
    next: str | None


def read_parameters(
    query: QueryDict, known: Mapping[str, serializers.Field], *, labels: bool = False
) -> dict[str, Any]:
    """The values of a query string; `label` may be repeated. Raises Invalid, naming every fault."""
    faults, values = [], {}
    for name, given in query.lists():
        if name == "label" and labels:
            values["label"], wrong = _labels(given)
            faults += wrong
        elif name not in known:
            faults.append(Fault(f"?{name[:64]}", "There is no such parameter here.", "unknown_parameter"))
        elif len(given) > 1:
            faults.append(Fault(f"?{name}", "Give it once.", "invalid"))
        else:
            try:
                values[name] = known[name].run_validation(given[0])
            except serializers.ValidationError as error:
                words = error.detail if isinstance(error.detail, list) else [error.detail]
                faults += [Fault(f"?{name}", str(word), getattr(word, "code", "invalid")) for word in words]
    if faults:
        raise Invalid(errors=faults)
    return values


def _labels(given: list[str]) -> tuple[dict[str, str], list[Fault]]:
    labels: dict[str, str] = {}
    for text in given[: MAX_LABELS + 1]:
        key, colon, value = text.partition(":")
        if not colon or not 0 < len(key) <= MAX_KEY or len(value) > MAX_VALUE or "\x00" in text:
            return {}, [Fault("?label", "Write it as key:value.", "invalid")]
        if labels.setdefault(key, value) != value:
            return {}, [Fault("?label", f"{key} cannot have two values.", "invalid")]
    if len(given) > MAX_LABELS:
        return {}, [Fault("?label", f"At most {MAX_LABELS} labels.", "invalid")]
    return labels, []


def narrow(rows: QuerySet, filters: Mapping[str, Filter], values: Mapping[str, Any]) -> QuerySet:
    """The rows that the filters let through."""
    for name, value in values.items():
        if name == "label":
            rows = rows.filter(labels__contains=value)
        elif name in filters:
            rows = rows.filter(**{filters[name].lookup or name: value})
    return rows


def page(
    rows: QuerySet,
    order: Sequence[str],
    *,
    request: HttpRequest | Request,
    limit: int = DEFAULT_LIMIT,
    cursor: str = "",
) -> Page:
    """The rows after the cursor. `order` names columns: never null, together unique, all the same way (`-`)."""
    if cursor:
        columns = [column.lstrip("-") for column in order]
        rows = rows.filter(_after(columns, read_cursor(cursor, rows.model, order), down=order[0].startswith("-")))
    return cut(list(rows.order_by(*order)[: limit + 1]), order, request=request, limit=limit)


def cut(found: list[Any], order: Sequence[str], *, request: HttpRequest | Request, limit: int = DEFAULT_LIMIT) -> Page:
    """A page of what was found in this order: `limit` rows, and one more if there are more."""
    if len(found) <= limit:
        return Page(found, None)
    last = found[limit - 1]
    query = request.GET.copy()
    values = [getattr(last, column.lstrip("-")) for column in order]
    query["cursor"] = make_cursor(values, type(last), order)
    return Page(found[:limit], absolute(f"{request.path}?{query.urlencode()}"))


def _list(model: type[Model], order: Sequence[str]) -> str:
    """What a cursor is of: a place in one kind of list says nothing about another."""
    return f"{model._meta.label} {' '.join(order)}"


def _signer() -> signing.Signer:
    return signing.Signer(salt="api.cursor")


def make_cursor(values: Sequence[Any], model: type[Model], order: Sequence[str]) -> str:
    return _signer().sign_object([_list(model, order), *map(_plain, values)])


def read_cursor(cursor: str, model: type[Model], order: Sequence[str]) -> list[Any]:
    """The values in a cursor that this cloud made for this kind of list; raises Invalid."""
    try:
        made_for, *values = _signer().unsign_object(cursor)
        if made_for != _list(model, order) or len(values) != len(order):
            raise ValueError
        fields: list[Any] = [model._meta.get_field(column.lstrip("-")) for column in order]
        return [field.to_python(value) for field, value in zip(fields, values, strict=True)]
    except (signing.BadSignature, ValueError, TypeError, BadValue):
        message = "This cursor is not one of this list. Begin again without it."
        raise Invalid(message, errors=[Fault("?cursor", message)]) from None


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID | Decimal) else value


def _after(columns: Sequence[str], values: Sequence[Any], *, down: bool) -> Q:
    """(a, b, c) > (x, y, z), in the form from which an index on (a, b, c) can be entered."""
    beyond = "lt" if down else "gt"
    condition = Q(**{f"{columns[-1]}__{beyond}": values[-1]})
    for column, value in reversed(list(zip(columns[:-1], values[:-1], strict=True))):
        condition = Q(**{f"{column}__{beyond}": value}) | (Q(**{column: value}) & condition)
    return Q(**{f"{columns[0]}__{beyond}e": values[0]}) & condition
