"""Queries that are built once. Django builds and compiles a query anew at each use: for a list of instances, with its
status as a CASE over subqueries, that takes more processor time than all the rest of the request.

`built_once` keeps a queryset that each use goes on to narrow; `Prepared` keeps the finished SQL of one that is always
narrowed alike, and takes the values of each use. `Statement` is such SQL at the server, which plans it once, too.
"""

import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, cached_property
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from django.db import connection
from django.db.models import Expression, Model, QuerySet
from django.db.transaction import TransactionManagementError

from cloud.rows import Maker

M = TypeVar("M", bound=Model)


class Compiled(Expression):
    """An annotation with its SQL, which was compiled once. It speaks of the tables of one query by their aliases:
    where these get other names, as in a subquery, the expression itself takes over again.
    """

    def __init__(self, expression: Any, sql: str, params: tuple[Any, ...]) -> None:
        super().__init__(output_field=expression.output_field)
        self.expression, self.sql, self.params = expression, sql, params
        self.contains_aggregate = expression.contains_aggregate

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        return self.sql, self.params

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, Any]:
        return self.expression.select_format(compiler, sql, params)  # type: ignore[no-any-return]

    def relabeled_clone(self, change_map: Any) -> Any:
        return self.expression.relabeled_clone(change_map)

    def get_group_by_cols(self) -> list[Any]:
        return self.expression.get_group_by_cols()  # type: ignore[no-any-return]


def built_once(build: "Callable[[], QuerySet[Any]]") -> "Callable[[], QuerySet[Any]]":
    """Decorates a function that makes a queryset: each process calls it once.

    The result is to be narrowed by `filter`, which works on a copy. It must depend on nothing that changes while a
    process runs: moments are those of the database (`Now()`), and parameters of a request come by `filter`.
    """

    @cache
    def built() -> "QuerySet[Any]":
        rows = build()
        compiler = rows.query.get_compiler(connection=connection)
        compiler.pre_sql_setup()
        for name, expression in rows.query.annotations.items():
            sql, params = compiler.compile(expression)
            rows.query.annotations[name] = Compiled(expression, sql, tuple(params))
        return rows

    return lambda: built().all()


class Statement:
    """SQL that the server parses and plans once for each connection: planning a list of instances takes it five times
    as long as running it. Its values are `%(name)s`, and `%%` is a percent sign.

    By PREPARE and EXECUTE: psycopg would give up all that is prepared at each ROLLBACK, so at each dry run and at each
    refusal. Therefore nothing else may be prepared (`prepare=True`), which Django's connections ignore anyway.
    """

    _numbers = itertools.count(1)
    _known: "WeakKeyDictionary[Any, set[str]]" = WeakKeyDictionary()  # what each connection has prepared

    def __init__(self, sql: str, *, table: str) -> None:
        """`table` is in its name, for who reads what the server is doing."""
        marks: dict[str, str] = {}

        def marked(found: re.Match[str]) -> str:
            return "%" if found[0] == "%%" else marks.setdefault(found[1], f"${len(marks) + 1}")

        self.name = f"{table}_{next(self._numbers)}"
        self.prepare = f"PREPARE {self.name} AS {re.sub(r'%%|%[(](.+?)[)]s', marked, sql)}"
        self.names = tuple(marks)
        self.execute = f"EXECUTE {self.name}" + (f"({', '.join(['%s'] * len(marks))})" if marks else "")

    def rows(self, values: Mapping[str, Any]) -> list[Any]:
        """All that it finds."""
        with connection.cursor() as cursor:
            known = self._known.setdefault(connection.connection, set())
            if self.name not in known:
                with connection.wrap_database_errors:
                    cursor.cursor.execute(self.prepare)  # past Django, where it would count as a query
                known.add(self.name)
            cursor.execute(self.execute, [values[name] for name in self.names])
            found: list[Any] = cursor.fetchall()
        return found


class Parameter(Expression):
    """Stands in a prepared query for a value that each use of it brings."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        return "%s", (self,)


class Prepared(Generic[M]):
    """A queryset whose SQL is compiled once in each process; the values of its parameters come with each use.

        @Prepared
        def _tokens(digest: Any) -> QuerySet[Token]:
            return Token.objects.select_related("user").filter(digest=digest)

        token = _tokens.first(digest(secret))

    The function gets a `Parameter` for each argument, uses it wherever Django takes an expression, and must depend on
    nothing else that changes while a process runs. Values go to PostgreSQL as they are: a text, a number, a UUID, a
    list of these; never a row (give its `pk`), never None (to which nothing is equal). It has no `prefetch_related`.
    """

    def __init__(self, build: "Callable[..., QuerySet[M]]", *, names: tuple[str, ...] = ()) -> None:
        """`names` of the parameters, where the function's signature doesn't tell."""
        self.build = build
        self.names = names or tuple(inspect.signature(build).parameters)

    def rows(self, *values: Any) -> list[M]:
        """All that it finds with these values, in the order of the function's arguments."""
        found = self._kept.found(dict(zip(self.names, values, strict=True)))
        return self._maker.rows(found)

    def tuples(self, *values: Any) -> list[tuple[Any, ...]]:
        """What it finds, of a queryset of `values_list`."""
        return [tuple(row) for row in self._kept.found(dict(zip(self.names, values, strict=True)))]

    def first(self, *values: Any) -> M | None:
        """The first row that it finds with these values."""
        return next(iter(self.rows(*values)), None)

    def get(self, *values: Any) -> M:
        """The one row that is there. Raises the model's DoesNotExist."""
        found = self.first(*values)
        if found is None:
            model: Any = self._maker.model
            raise model.DoesNotExist(f"There is none with {values}.")
        return found

    @cached_property
    def _kept(self) -> "_Kept":
        return _Kept(self.build(*map(Parameter, self.names)))

    @cached_property
    def _maker(self) -> "Maker[M]":
        return Maker(self._kept.compiler)


class _Kept:
    """The SQL of a queryset, as its compiler made it, and how what it finds becomes values of Python."""

    def __init__(self, rows: "QuerySet[Any]") -> None:
        self.compiler: Any = rows.query.get_compiler(connection=connection)
        sql, params = self.compiler.as_sql()
        self.statement = Statement(_written_out(sql, params), table=rows.model._meta.db_table)
        self.columns = self.compiler.col_count if self.compiler.has_extra_select else None
        self.converters = self.compiler.get_converters([one[0] for one in self.compiler.select])
        self.locks = rows.query.select_for_update

    def found(self, values: Mapping[str, Any]) -> list[list[Any]]:
        if self.locks and not connection.in_atomic_block:
            raise TransactionManagementError("Rows are locked inside a transaction.")
        found = self.statement.rows(values)
        if self.columns:
            found = [row[: self.columns] for row in found]
        return list(self.compiler.apply_converters(found, self.converters))


def _written_out(sql: str, params: Iterable[Any]) -> str:
    """The SQL with all values in it but those of parameters: `%(name)s`."""
    given = iter(params)

    def written(mark: re.Match[str]) -> str:
        if mark[0] == "%%":
            return "%%"
        value = next(given)
        if isinstance(value, Parameter):
            return f"%({value.name})s"
        text: str = cursor.mogrify("%s", [value])
        return text.replace("%", "%%")

    with connection.cursor() as cursor:
        return re.sub("%%|%s", written, sql)
