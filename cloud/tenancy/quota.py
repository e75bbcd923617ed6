"""Quota: limits per project and kind. Usage is the sum over the project's rows, taken under the quota row's lock.

The app that owns a kind registers the rows that count, in its module `quota`, which is imported when Django starts:

    quota.register("vcpus", lambda project_id: Instance.objects.filter(project_id=project_id), sum_of="vcpus")
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, reduce
from operator import add
from typing import Any, ClassVar, TypedDict
from uuid import UUID

from django.db.models import (
    BigIntegerField,
    Count,
    F,
    FloatField,
    JSONField,
    OuterRef,
    QuerySet,
    Subquery,
    Sum,
    Value,
)
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Coalesce, Greatest, JSONObject, NullIf

from cloud.problems import Fault, FixBy, Problem
from cloud.queries import Prepared
from cloud.tenancy.models import Project, Quota

Rows = Callable[[Any], QuerySet]


class Use(TypedDict):
    """Null means: no limit."""

    limit: int | None
    used: int
    left: int | None


class OverQuota(Problem):
    """The project would have more than its quota allows."""

    status: ClassVar[int] = 403
    code: ClassVar[str] = "over_quota"
    title: ClassVar[str] = "This is more than the project's quota allows"
    fix_by: ClassVar[FixBy] = "operator"


@dataclass(frozen=True)
class _Counted:
    rows: Rows
    sum_of: str | None


_kinds: dict[str, tuple[_Counted, ...]] = {}


def register(kind: str, *rows: Rows, sum_of: str | None = None) -> None:
    """Say which rows of a project count for a kind: one each, or the sum of a column of theirs."""
    _kinds[kind] = tuple(_Counted(some, sum_of) for some in rows)
    _with_sums.cache_clear()


def lock(project: Project | UUID) -> Quota:
    """The project's quota row, locked: nothing is added to the project meanwhile by anybody else."""
    return _locked.get(_id(project))


@Prepared
def _locked(project_id: Any) -> "QuerySet[Quota]":
    return Quota.objects.select_for_update().filter(pk=project_id)


def usage(project: Project | UUID) -> dict[str, Use]:
    """Limit, use and what is left, by kind, in one query."""
    return _table(_read(_id(project), tuple(_kinds)))


def nearest(share: float, limit: int) -> list[tuple[Project, dict[str, Use]]]:
    """The projects that have used at least this share of one of their limits, the fullest first, in one query.

    Each comes with the kinds of which it has. At most `limit` projects.
    """
    sums = {f"used_{kind}": reduce(add, map(_sum, counted)) for kind, counted in _kinds.items()}
    shares = [_share(kind) for kind in _kinds]
    found = Quota.objects.select_related("project").annotate(**sums).annotate(fullest=Greatest(*shares))
    nearest = []
    for quota in found.filter(fullest__gte=share).order_by("-fullest", "project__name")[:limit]:
        near = {
            kind: use for kind, use in _table(quota).items() if use["limit"] and use["used"] >= share * use["limit"]
        }
        nearest.append((quota.project, near))
    return nearest


def _share(kind: str) -> Any:
    """How much of a limit is used, 1.0 for all; null where there is no limit, or one of nothing."""
    limit = NullIf(Cast(KeyTextTransform(kind, "limits"), FloatField()), Value(0.0))
    return Cast(F(f"used_{kind}"), FloatField()) / limit


def require(project: Project | UUID, **additions: int) -> Quota:
    """Lock the quota and make sure that so much more fits. Raises OverQuota, naming every kind that is exceeded."""
    quota = lock(project)
    asked_kinds = tuple(kind for kind in _kinds if kind in additions)
    table = _table(_read(quota.pk, asked_kinds))
    exceeded = []
    for kind, asked in additions.items():
        use = table.get(kind)
        if use is not None and asked > 0 and use["limit"] is not None and use["used"] + asked > use["limit"]:
            exceeded.append({"kind": kind, "limit": use["limit"], "used": use["used"], "asked": asked})
    if exceeded:
        raise _refusal(exceeded)
    return quota


def _refusal(exceeded: list[dict[str, Any]]) -> OverQuota:
    words = [f"{over['kind']}: {over['asked']} more asked, {over['used']} of {over['limit']} used" for over in exceeded]
    return OverQuota(
        f"{'; '.join(words)}. Delete what is no longer needed, or ask an admin of the cloud for a larger quota.",
        errors=[Fault("", text, "over_quota") for text in words],
        extra={"quota": exceeded},
    )


def _read(project_id: UUID, kinds: tuple[str, ...]) -> Quota:
    """The quota row with `used_<kind>` for each of these kinds. Raises Quota.DoesNotExist."""
    passes = _passes(kinds)
    found = _with_sums(kinds).get(project_id)
    for kind in kinds:
        sums = (getattr(found, name) or {} for name, _ in passes)
        setattr(found, f"used_{kind}", sum(each.get(kind) or 0 for each in sums))
    return found


@cache
def _with_sums(kinds: tuple[str, ...]) -> "Prepared[Quota]":
    passes = {name: _sums(counted) for name, counted in _passes(kinds)}
    return Prepared(lambda project_id: Quota.objects.annotate(**passes).filter(pk=project_id))


def _passes(kinds: tuple[str, ...]) -> list[tuple[str, dict[str, _Counted]]]:
    """What is counted of the same rows, by kind, with a name: one look at them is enough for all of it."""
    found: dict[Rows, dict[str, _Counted]] = {}
    for kind in kinds:
        for counted in _kinds[kind]:
            found.setdefault(counted.rows, {})[kind] = counted
    return [(f"pass_{number}", counted) for number, counted in enumerate(found.values())]


def _sums(counted: dict[str, _Counted]) -> Subquery:
    """The sums of the same rows, as an object by kind; null without rows."""
    rows = next(iter(counted.values())).rows(OuterRef("pk")).order_by().annotate(all_rows=Value(1)).values("all_rows")
    totals = JSONObject(**{kind: _total(each) for kind, each in counted.items()})
    return Subquery(rows.annotate(totals=totals).values("totals"), output_field=JSONField())


def _total(counted: _Counted) -> Any:
    return Sum(F(counted.sum_of)) if counted.sum_of else Count("pk")


def _sum(counted: _Counted) -> Coalesce:
    rows = counted.rows(OuterRef("pk")).order_by().annotate(all_rows=Value(1)).values("all_rows")
    return Coalesce(Subquery(rows.annotate(total=_total(counted)).values("total"), output_field=BigIntegerField()), 0)


def _table(quota: Quota) -> dict[str, Use]:
    table: dict[str, Use] = {}
    for kind, limit in quota.limits.items():
        used = getattr(quota, f"used_{kind}", 0)
        table[kind] = Use(limit=limit, used=used, left=None if limit is None else max(0, limit - used))
    return table


def _id(project: Project | UUID) -> UUID:
    return project if isinstance(project, UUID) else project.pk
