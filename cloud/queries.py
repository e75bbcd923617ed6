"""Querysets that are built once. Django builds and compiles a query anew at each use: for a list of instances, with its
status as a CASE over subqueries, that takes more processor time than all the rest of the request.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from django.db import connection
from django.db.models import Expression, QuerySet


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
