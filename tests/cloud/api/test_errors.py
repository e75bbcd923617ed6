"""Problems: one form, a closed catalogue, words for what the database refuses."""

import importlib
import pkgutil

import psycopg
import pytest
from django.db import connection, models
from django.db.models.functions import Now
from django.db.utils import DataError, OperationalError

import cloud
import compute
import network
import storage
from cloud.api.translate import problem_of
from cloud.problems import CATALOGUE, Problem
from compute.models import Flavor
from tests import factories


def every_problem() -> list[type[Problem]]:
    for package in (cloud, compute, network, storage):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not any(part in {"migrations", "agent", "__main__", "web"} for part in module.name.split(".")):
                importlib.import_module(module.name)
    found, todo = [], [Problem]
    while todo:
        kind = todo.pop()
        found.append(kind)
        todo += kind.__subclasses__()
    return found


def test_every_problem_has_a_code_of_the_catalogue_with_its_status():
    wrong = [kind for kind in every_problem() if kind.status not in CATALOGUE.get(kind.code, ())]
    assert wrong == []


def test_every_code_is_documented():
    with open("docs/api.md") as file:
        text = file.read()
    assert [code for code in CATALOGUE if f"`{code}`" not in text] == []


def test_all_faults_of_a_body_come_in_one_answer(api, cloud_admin):
    body = {"name": "Bad Name", "vcpus": 0, "memory_mib": "64", "disk_gib": 2**40, "colour": "red", "id": "x",
            "labels": {"a:b": "c", "d": 1}, "price_per_hour": -1, "enabled": 1}  # fmt: skip
    answer = api.as_(cloud_admin).post("flavors", body)
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    problem = answer.json()
    pointers = {fault["pointer"] for fault in problem["errors"]}
    assert pointers == {"/name", "/vcpus", "/memory_mib", "/disk_gib", "/colour", "/id", "/labels/a:b", "/labels/d",
                        "/price_per_hour", "/enabled"}  # fmt: skip
    assert problem["request_id"] == answer["X-Request-ID"]
    assert (problem["fix_by"], problem["retryable"], problem["code"]) == ("you", False, "invalid")
    assert not Flavor.objects.exists()


def test_a_breach_of_a_named_constraint_has_words(db):
    with pytest.raises(models.ProtectedError) as protected:
        _used_flavor().delete()
    problem = problem_of(protected.value)
    assert (problem.status, problem.detail) == (409, "It is in use by 1 instance.")


def test_what_is_in_the_trash_is_named_as_such(db):
    flavor = _used_flavor()
    flavor.instances.update(trashed_at=Now())
    with pytest.raises(models.ProtectedError) as protected:
        flavor.delete()
    words = "It is in use by 1 instance in the trash. Delete what is in the trash for good, or restore it."
    assert problem_of(protected.value).detail == words


def _used_flavor() -> Flavor:
    from compute.models import Instance

    flavor = factories.flavor()
    Instance.objects.create(
        project=factories.project(), name="web", flavor=flavor, vcpus=1, memory_mib=64, disk_gib=1,
        image=factories.image(), created_by="x",
    )  # fmt: skip
    return flavor


def test_a_name_taken_says_so_whatever_the_constraint_is_called(api, cloud_admin):
    api.as_(cloud_admin).post("projects", {"name": "one"})
    answer = api.as_(cloud_admin).post("projects", {"name": "one"})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert answer.json()["errors"][0]["pointer"] == "/name"


@pytest.mark.parametrize(
    ("state", "status", "code"),
    [
        ("57014", 503, "unavailable"),
        ("55P03", 503, "unavailable"),
        ("40P01", 503, "unavailable"),
        ("57P01", 503, "unavailable"),
    ],
)
def test_a_database_that_does_not_answer_is_503_and_retryable(state, status, code):
    error = OperationalError("words of the database")
    error.__cause__ = psycopg.errors.lookup(state)("words of the database")
    problem = problem_of(error)
    assert (problem.status, problem.code, problem.retryable) == (status, code, True)
    assert "Retry-After" in problem.headers
    assert "words of the database" not in str(problem.body())


def test_data_that_does_not_fit_is_400():
    assert problem_of(DataError("integer out of range")).status == 400


def test_an_unknown_exception_tells_nothing_of_itself():
    problem = problem_of(RuntimeError("secret"))
    assert (problem.status, problem.code) == (500, "internal")
    assert "secret" not in str(problem.body())


def test_a_statement_that_takes_too_long_is_503(api, viewer, monkeypatch):
    def sleep(self):
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 50")
            cursor.execute("SELECT pg_sleep(2)")

    monkeypatch.setattr("compute.api.flavors.FlavorView.rows", sleep)
    assert api.as_(viewer).get("flavors").status_code == 503


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/v2", 404),
        ("GET", "/agent/v1/nothing", 404),
        ("GET", "/api/v1/schema/", 404),
        ("PUT", "/api/v1/schema", 405),
    ],
)
def test_refusals_outside_of_our_views_have_the_same_form(api, viewer, method, path, status):
    answer = api.as_(viewer).generic(method, path)
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer["X-Request-ID"]


def test_a_misspelled_verb_is_not_taken_for_a_missing_resource(api, viewer):
    words = api.as_(viewer).post("projects/demo/volumes/data/grow").json()["detail"]
    assert words == "No call of the API has this address. GET /api/v1/schema lists all of them."


def test_a_method_that_is_not_there_is_405_with_allow(api, viewer):
    answer = api.as_(viewer).put("flavors", {})
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in answer["Allow"]


def test_a_request_id_that_is_sound_is_kept_and_another_one_is_not(api, viewer):
    assert api.as_(viewer).get("flavors", HTTP_X_REQUEST_ID="abc-1.2_3")["X-Request-ID"] == "abc-1.2_3"
    for unsound in ("a b", "x" * 65, "ü", "a\nb"):
        assert api.as_(viewer).get("flavors", HTTP_X_REQUEST_ID=unsound)["X-Request-ID"] != unsound


def test_options_and_head_are_answered(api, viewer):
    assert api.as_(viewer).options("flavors").status_code == 204
    head = api.as_(viewer).head("flavors")
    assert (head.status_code, head.content) == (200, b"")
