"""Prepared queries find what a fresh queryset finds, with the values of each use."""

import threading
import uuid

import pytest
from django.db import connection, transaction
from django.db.models import Value
from django.db.models.functions import Concat
from django.db.transaction import TransactionManagementError

from cloud.api.fields import by_reference, called, find
from cloud.queries import Prepared
from cloud.tenancy.models import Project
from compute.models import Flavor, Instance
from compute.networking import with_addresses
from compute.status import as_listed
from compute.volumes import with_volumes
from storage.models import Image
from storage.services import image_called, images_of
from tests import factories

pytestmark = pytest.mark.django_db
built = []


@Prepared
def listed(project, name):
    built.append(1)
    rows = with_volumes(with_addresses(as_listed(Instance.objects.all())))
    more = Concat("name", Value("-100 %s %"), "status")
    return rows.annotate(more=more).filter(project=project, name=name)


def facts(row):
    """All that a row knows, also of the rows that came with it."""
    known = {key: value for key, value in vars(row).items() if not key.startswith("_")}
    return known | {name: facts(one) for name, one in row._state.fields_cache.items() if one is not None}


def test_it_finds_the_same(make_instance):
    made = [make_instance(name=name) for name in "abc"]
    for instance in made:
        fresh = listed.build(instance.project_id, instance.name).get()
        assert facts(listed.get(instance.project_id, instance.name)) == facts(fresh)
        assert fresh.more.startswith(f"{instance.name}-100 %s %")
    assert listed.first(made[0].project_id, "d") is None
    assert listed.rows(uuid.uuid4(), "a") == []
    with pytest.raises(Instance.DoesNotExist):
        listed.get(made[0].project_id, "d")


def test_it_is_built_once_and_remembers_no_rows(make_instance):
    project = make_instance(name="a").project_id
    listed.first(project, "a")
    times = len(built)
    Instance.objects.update(name="b")
    assert listed.first(project, "a") is None
    assert listed.first(project, "b").name == "b"
    assert len(built) == times


@pytest.mark.parametrize("name", ["", "'", "%", "%s", "a' OR 'a'='a", "\\", "名"])
def test_values_stay_values(name, make_instance):
    project = make_instance(name="a").project_id
    assert listed.first(project, name) is None
    Instance.objects.update(name=name)
    assert listed.first(project, name).name == name


def on_another_connection(do, django_db_blocker):
    """A thread has a connection of its own, which is closed at its end."""

    def then_close() -> None:
        try:
            do()
        finally:
            connection.close()

    with django_db_blocker.unblock():
        thread = threading.Thread(target=then_close)
        thread.start()
        thread.join()


def test_a_lock_needs_a_transaction(django_db_blocker):
    locked = Prepared(lambda name: Project.objects.select_for_update().filter(name=name))
    made = factories.project()
    with transaction.atomic():
        assert locked.first(made.name) == made
    failures = []

    def outside() -> None:
        try:
            locked.first(made.name)
        except TransactionManagementError as error:
            failures.append(error)

    on_another_connection(outside, django_db_blocker)
    assert len(failures) == 1


def test_its_plan_outlives_what_is_rolled_back(make_instance):
    project = make_instance(name="a").project_id
    listed.first(project, "a")
    before = uses_of_the_plan()
    with transaction.atomic():
        listed.first(project, "a")
        transaction.set_rollback(True)
    assert listed.first(project, "a").name == "a"
    assert uses_of_the_plan() == before + 2


def uses_of_the_plan():
    """How often this connection's server has used the one plan that it made of `listed`."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT generic_plans FROM pg_prepared_statements WHERE custom_plans = 0 AND name = %s",
            [listed._kept.statement.name],
        )
        return cursor.fetchone()[0]


def test_each_connection_makes_its_own_plan(django_db_blocker):
    everything = Prepared(lambda name: Project.objects.filter(name=name))
    found = [everything.first("nobody")]

    def elsewhere() -> None:
        found.append(everything.first("nobody"))
        connection.close()
        found.append(everything.first("nobody"))

    on_another_connection(elsewhere, django_db_blocker)
    assert found == [None, None, None]


def test_what_is_called_so_is_found_by_id_and_name():
    small, large = factories.flavor("small"), factories.flavor("large")
    flavor_called = called(Flavor.objects.all)
    references = ["small", "large", str(small.pk), str(large.pk).upper(), str(uuid.uuid4()), "", "x\x00", "x" * 300]
    for reference in references:
        assert flavor_called(reference) == by_reference(Flavor.objects.all(), reference).first()
    assert flavor_called("small") == small


def test_an_image_is_called_by_name_and_version():
    own, other = factories.project(), factories.project()
    for project in (own, other, None):
        for version in ("1", "2"):
            factories.image("debian", project=project, version=version)
    references = [f"debian{suffix}" for suffix in ("", ":latest", ":1", ":2", ":3", ":", ":\x00")]
    references += [str(image.pk) for image in Image.objects.all()]
    for project in (own, other):
        for reference in references:
            expected = find(images_of(project), reference).first()
            assert image_called(reference, project) == expected
        assert find(images_of(project), "debian:1").first().project == project
