"""Saving single rows by SQL that is written once in a process, and planned once by each connection's server.

As `row.save()` does it, which builds and compiles its INSERT or UPDATE anew each time: for what is written with every
launch, step and report. No signals are sent. A value may be an expression that names no column (`Now()`).
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from django.db import DatabaseError, connection
from django.db.models import Field, Model
from django.db.models.expressions import DatabaseDefault
from django.db.models.sql import Query

from cloud.queries import Statement


def insert(row: Model, *, unless: str = "") -> bool:
    """Save a new row. What the database gives it, by default or by an expression, is then known to the row.

    `unless`: what ON CONFLICT names; if there is such a row this one is not saved, and False is returned.
    """
    model: Any = type(row)
    given: list[Field[Any, Any]] = []
    for field in model._meta.concrete_fields:
        value = getattr(row, field.attname)
        if not isinstance(value, DatabaseDefault) and not (field.primary_key and value is None):
            given.append(field)
    sources, values = _sources(row, given, add=True)
    calculated = tuple(field for field in model._meta.concrete_fields if sources.get(field.column) != _plain(field))
    found = _insert(model, tuple(sources.items()), calculated, unless).rows(values)
    if not found:
        return False
    for field, value in zip(calculated, found[0], strict=False):
        converted = field.from_db_value(value, None, connection) if hasattr(field, "from_db_value") else value
        setattr(row, field.attname, converted)
    row._state.adding, row._state.db = False, "default"
    return True


def update(row: Model, *names: str) -> None:
    """Save these fields of a row that is there, or all. Raises DatabaseError if it is not there any more."""
    model: Any = type(row)
    fields = [model._meta.get_field(name) for name in names] or model._meta.concrete_fields
    sources, values = _sources(row, [field for field in fields if not field.primary_key], add=False)
    if not _update(model, tuple(sources.items())).rows(values | {"pk": row.pk}):
        raise DatabaseError(f"{model._meta.label} {row.pk} is not there any more.")


def _sources(row: Model, fields: Sequence[Any], *, add: bool) -> tuple[dict[str, str], dict[str, Any]]:
    """What is written into each column, as SQL, and its values."""
    sources, values = {}, {}
    for field in fields:
        value = field.get_db_prep_save(field.pre_save(row, add), connection)
        if hasattr(value, "as_sql"):
            sql, parameters = _compiled(type(row), value)
            names = (f"{field.column}_{number}" for number in range(len(parameters)))
            given = dict(zip(names, parameters, strict=True))
            left = iter(given)
            sources[field.column] = re.sub("%%|%s", lambda mark: _named(mark[0], left), sql)  # noqa: B023
            values.update(given)
        else:
            sources[field.column] = _plain(field)
            values[field.column] = value
    return sources, values


def _plain(field: Any) -> str:
    """A value and nothing else."""
    return f"%({field.column})s"


def _named(mark: str, names: Any) -> str:
    return mark if mark == "%%" else f"%({next(names)})s"


def _compiled(model: type[Model], expression: Any) -> tuple[str, Sequence[Any]]:
    query = Query(model)
    resolved = expression.resolve_expression(query, allow_joins=False, for_save=True)
    sql, parameters = query.get_compiler(connection=connection).compile(resolved)
    return sql, parameters


@cache
def _insert(model: Any, sources: tuple[tuple[str, str], ...], calculated: tuple[Any, ...], unless: str) -> Statement:
    columns, values = zip(*sources, strict=True)
    returned = ", ".join(_quoted(field.column) for field in calculated) or "1"
    conflict = f"ON CONFLICT {unless} DO NOTHING" if unless else ""
    table = model._meta.db_table
    sql = f"INSERT INTO {_quoted(table)} ({', '.join(map(_quoted, columns))}) VALUES ({', '.join(values)})"
    return Statement(f"{sql} {conflict} RETURNING {returned}", table=table)


@cache
def _update(model: Any, sources: tuple[tuple[str, str], ...]) -> Statement:
    table, key = model._meta.db_table, _quoted(model._meta.pk.column)
    written = ", ".join(f"{_quoted(column)} = {value}" for column, value in sources)
    return Statement(f"UPDATE {_quoted(table)} SET {written} WHERE {key} = %(pk)s RETURNING {key}", table=table)


def _quoted(name: str) -> str:
    return connection.ops.quote_name(name)
