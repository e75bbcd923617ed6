"""Fields of bodies. They take exactly the JSON type that they name: "3" is no integer, 1 is no text."""

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from uuid import UUID

from django.db.models import Model, Q, QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cloud.queries import Prepared
from cloud.tenancy.models import NAME_PATTERN, validate_name

UUID_FORM = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
MAX_LABELS, MAX_KEY, MAX_VALUE = 50, 63, 255
MAX_INTEGER = 2**31 - 1  # what an integer column of PostgreSQL holds

M = TypeVar("M", bound=Model)

NOT_FOUND = "Not found, or you may not see it."


def as_uuid(text: str) -> UUID | None:
    """The UUID that a text is, in its usual form only."""
    return UUID(text) if UUID_FORM.fullmatch(text) else None


def find(rows: QuerySet, reference: str, *, name: str = "name") -> QuerySet:
    """The rows that a reference means; a model whose rows have other references says so by its query set."""
    own = getattr(rows, "by_reference", None)
    return own(reference) if own else by_reference(rows, reference, name=name)


def by_reference(rows: QuerySet, reference: str, *, name: str = "name") -> QuerySet:
    """The rows that an id or a name means."""
    ident = as_uuid(reference)
    if ident is not None:
        return rows.filter(pk=ident)
    return rows.filter(**{name: reference}) if _may_be_a_name(reference) else rows.none()


def _may_be_a_name(text: str) -> bool:
    """PostgreSQL stores no U+0000, and no column of names is longer."""
    return len(text) <= 255 and "\x00" not in text


def called(rows: "Callable[..., QuerySet[M]]") -> "Callable[..., M | None]":
    """A function that finds what an id or a name means, as `by_reference` does, with prepared queries.

    `rows` makes the queryset, of parameters; their values follow the reference:
    `project_called = called(projects_of)` · `project_called(reference, user.pk)`.
    """
    names = tuple(inspect.signature(rows).parameters)
    by_id = Prepared(lambda *given: rows(*given[1:]).filter(pk=given[0])[:1], names=("reference", *names))
    by_name = Prepared(lambda *given: rows(*given[1:]).filter(name=given[0])[:1], names=("reference", *names))

    def find(reference: str, *values: Any) -> M | None:
        ident = as_uuid(reference)
        if ident is not None:
            return by_id.first(ident, *values)
        return by_name.first(reference, *values) if _may_be_a_name(reference) else None

    return find


class Integer(serializers.IntegerField):
    """A whole number that its column can hold."""

    default_error_messages = {"max_value": "At most {max_value}.", "min_value": "At least {min_value}."}

    def __init__(self, **options: Any):
        options.setdefault("min_value", 0)
        options.setdefault("max_value", MAX_INTEGER)
        super().__init__(**options)

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return int(data)


class Number(serializers.FloatField):
    """A number, with or without a fraction."""

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        return float(data)


class Text(serializers.CharField):
    """Text, as it was sent: spaces at its ends are kept."""

    default_error_messages = {
        "blank": "Fill this in.",
        "max_length": "At most {max_length} characters.",
        "min_length": "At least {min_length} characters.",
    }

    def __init__(self, **options: Any):
        options.setdefault("trim_whitespace", False)
        options.setdefault("max_length", 255)
        super().__init__(**options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


class Flag(serializers.BooleanField):
    """`true` or `false`."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class NameField(Text):
    """A resource's name: a DNS label that begins with a letter, and does not look like an id."""

    default_error_messages = {"looks_like_id": "A name may not have the form of an id."}

    def __init__(self, **options: Any):
        options.setdefault("max_length", 63)
        super().__init__(**options)
        self.validators.append(validate_name)

    def to_internal_value(self, data: Any) -> str:
        name = super().to_internal_value(data)
        if as_uuid(name):
            self.fail("looks_like_id")
        return name


@extend_schema_field(
    {
        "type": "object",
        "additionalProperties": {"type": "string", "maxLength": MAX_VALUE},
        "propertyNames": {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": r"^[^:\s]+$"},
        "maxProperties": MAX_LABELS,
    }
)
class LabelsField(serializers.Field):
    """A user's own words on a resource: `{"tier": "front"}`. A key has no colon and no space: `?label=key:value`."""

    default_error_messages = {
        "invalid": "Labels are an object of texts.",
        "too_many": f"At most {MAX_LABELS} labels.",
        "key": f"A label's key has 1 to {MAX_KEY} characters, without colon and space.",
        "value": f"A label's value is a text of at most {MAX_VALUE} characters.",
    }

    def to_internal_value(self, data: Any) -> dict[str, str]:
        if not isinstance(data, dict):
            self.fail("invalid")
        if len(data) > MAX_LABELS:
            self.fail("too_many")
        faults = {}
        for key, value in data.items():
            if not re.fullmatch(rf"[^:\s]{{1,{MAX_KEY}}}", key):
                faults[key] = [self.error_messages["key"]]
            elif not isinstance(value, str) or len(value) > MAX_VALUE:
                faults[key] = [self.error_messages["value"]]
        if faults:
            raise serializers.ValidationError(faults)
        return data

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field({"type": "string", "minLength": 1, "maxLength": 63, "description": "A name or an id."})
class ReferenceField(serializers.Field):
    """Another resource, by id or name, out of what the caller may see. Absent and invisible get the same words.

    `rows(scope)` gives what may be referred to; the scope is the view's (`cloud.api.scope.Scope`). Hot paths also give
    `found(scope, reference)`, which finds one of them with prepared queries (see `called`).
    """

    default_error_messages = {"invalid": "Give a name or an id.", "not_found": NOT_FOUND}

    def __init__(
        self,
        rows: Callable[[Any], QuerySet],
        *,
        name: str = "name",
        found: Callable[[Any, str], Model | None] | None = None,
        **options: Any,
    ):
        self.rows, self.name = rows, name
        self.found = found or (lambda scope, reference: find(rows(scope), reference, name=name).first())
        super().__init__(**options)

    def to_internal_value(self, data: Any) -> Model:
        if not isinstance(data, str) or not data:
            self.fail("invalid")
        found = self.found(self.context["scope"], data)
        if found is None:
            self.fail("not_found")
        return found

    def to_representation(self, value: Any) -> Any:
        return {"id": str(value.pk), "name": getattr(value, self.name)}


@extend_schema_field(
    {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 63}, "uniqueItems": True}
)
class ReferencesField(ReferenceField):
    """Several others, found in one query, in the order given."""

    default_error_messages = {
        "not_a_list": "Give a list of names or ids.",
        "too_many": "At most {most} of them.",
        "twice": "It is in the list twice.",
    }

    def __init__(self, rows: Callable[[Any], QuerySet], *, most: int = 50, **options: Any):
        self.most = most
        super().__init__(rows, **options)

    def to_internal_value(self, data: Any) -> list[Model]:  # type: ignore[override]
        if not isinstance(data, list):
            self.fail("not_a_list")
        if len(data) > self.most:
            self.fail("too_many", most=self.most)
        known = self._known(text for text in data if isinstance(text, str) and "\x00" not in text)
        found: list[Model] = []
        faults: dict[int, list[Any]] = {}
        for index, reference in enumerate(data):
            if not isinstance(reference, str) or not reference:
                faults[index] = [self._fault("invalid")]
            elif reference.lower() not in known and reference not in known:
                faults[index] = [self._fault("not_found")]
            elif (row := known.get(reference) or known[reference.lower()]) in found:
                faults[index] = [self._fault("twice")]
            else:
                found.append(row)
        if faults:
            raise serializers.ValidationError(faults)  # type: ignore[arg-type]
        return found

    def _known(self, references: Iterable[str]) -> dict[str, Model]:
        names: set[str] = set()
        ids: set[UUID] = set()
        for reference in references:
            if ident := as_uuid(reference):
                ids.add(ident)
            else:
                names.add(reference)
        if not names and not ids:
            return {}
        rows = self.rows(self.context["scope"]).filter(Q(pk__in=ids) | Q(**{f"{self.name}__in": names}))
        known: dict[str, Model] = {}
        for row in rows:
            known[getattr(row, self.name)] = known[str(row.pk)] = row
        return known

    def _fault(self, code: str) -> serializers.ErrorDetail:
        return serializers.ErrorDetail(str(self.error_messages[code]), code)

    def to_representation(self, value: Any) -> Any:
        return [super(ReferencesField, self).to_representation(row) for row in value]


__all__ = [
    "NAME_PATTERN", "Flag", "Integer", "LabelsField", "NameField", "ReferenceField", "ReferencesField", "Text",
    "as_uuid", "by_reference", "called",
]  # fmt: skip
