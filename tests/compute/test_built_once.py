"""Querysets that are built once find what a fresh one finds, whatever goes on top of them."""

import pytest
from django.db.models import Count, QuerySet, Value
from django.db.models.functions import Concat

from cloud.queries import built_once
from compute.models import Instance
from compute.networking import with_addresses
from compute.status import as_listed
from compute.volumes import with_volumes

pytestmark = pytest.mark.django_db
built = []


def fresh() -> "QuerySet[Instance]":
    return with_volumes(with_addresses(as_listed(Instance.objects.all())))


@built_once
def kept() -> "QuerySet[Instance]":
    built.append(1)
    return fresh()


WAYS = {
    "all": lambda rows: rows,
    "one": lambda rows: rows.filter(name="b"),
    "by an annotation": lambda rows: rows.filter(status="stopped"),
    "by none of it": lambda rows: rows.exclude(status="stopped"),
    "in its order": lambda rows: rows.order_by("-status", "-name")[:2],
    "with one more": lambda rows: rows.annotate(more=Concat("name", Value("-"), "status")).filter(more__startswith="a"),
    "of a project": lambda rows: rows.filter(project__name__startswith="tenant", trashed_at=None),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_finds_the_same(way, make_instance):
    for name in "abc":
        make_instance(name=name)
    narrow = WAYS[way]
    found = [
        [{key: value for key, value in vars(row).items() if not key.startswith("_")} for row in narrow(rows)]
        for rows in (fresh().order_by("name"), kept().order_by("name"))
    ]
    assert found[0] == found[1]
    assert narrow(kept()).count() == narrow(fresh()).count() == len(found[0])


def test_it_can_be_part_of_another_query(make_instance):
    make_instance(name="a")
    for rows in (fresh(), kept()):
        stopped = rows.filter(status="error").values("pk")
        assert Instance.objects.filter(pk__in=stopped).count() == rows.filter(status="error").count()
        assert sum(one["count"] for one in rows.order_by().values("status").annotate(count=Count("pk"))) == 1


def test_it_is_built_once_and_never_remembers_rows(make_instance):
    assert list(kept().filter(name="a")) == []
    make_instance(name="a")
    assert [row.name for row in kept().filter(name="a")] == ["a"]
    assert len(built) == 1
