"""Rows out of what a query found, without Django's constructor, which tells signals of each row and sets one attribute
after the other: that took half of the processor time of a list of instances.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

from django.db.models import Model
from django.db.models.base import ModelState

M = TypeVar("M", bound=Model)


class _State(ModelState):
    """Of a row that is in the database."""

    adding = False
    db = "default"


class Maker(Generic[M]):
    """Makes the rows of one queryset, with those that they refer to, as its compiler has it.

    What several of them refer to is made once: fifty instances of a list have one object of their flavor. So whoever
    changes that changes it for all.
    """

    def __init__(self, compiler: Any) -> None:
        self.model: type[M] = compiler.klass_info["model"]
        self.annotations = list((compiler.annotation_col_map or {}).items())
        self.one = _One(compiler.klass_info, compiler.select)

    def rows(self, found: Iterable[Sequence[Any]]) -> list[M]:
        made: dict[Any, Any] = {}
        rows = []
        for values in found:
            row = self.one.make(values, made)
            if self.annotations:
                known = row.__dict__
                for name, at in self.annotations:
                    known[name] = values[at]
            rows.append(row)
        return rows


class _One:
    """Makes rows of one model out of their columns; those of its parents (of models that inherit) aren't known here."""

    def __init__(self, klass_info: dict[str, Any], select: Sequence[Any]) -> None:
        columns = klass_info["select_fields"]
        self.model = klass_info["model"]
        self.begin, self.end = columns[0], columns[-1] + 1
        self.names = [one[0].target.attname for one in select[self.begin : self.end]]
        self.key = self.begin + self.names.index(self.model._meta.pk.attname)
        self.related = [
            (_One(info, select), info["local_setter"], info["remote_setter"])
            for info in klass_info.get("related_klass_infos", [])
        ]

    def make(self, values: Sequence[Any], made: dict[Any, Any]) -> Any:
        row = self.model.__new__(self.model)
        known = row.__dict__
        known["_state"] = _State()
        known.update(zip(self.names, values[self.begin : self.end], strict=True))
        for one, tell_row, tell_other in self.related:
            other = one.shared(values, made)
            tell_row(row, other)
            if other is not None:
                tell_other(other, row)
        return row

    def shared(self, values: Sequence[Any], made: dict[Any, Any]) -> Any:
        """The row that another one refers to, if any."""
        key = values[self.key]
        if key is None:
            return None
        place = (self.begin, key)
        if place not in made:
            made[place] = self.make(values, made)
        return made[place]
