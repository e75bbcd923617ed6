"""The OpenAPI document."""

import re

import pytest
from django.core.management import call_command
from openapi_spec_validator import OpenAPIV31SpecValidator

from cloud.api.documentation import document
from cloud.problems import CATALOGUE


def test_the_document_is_valid_openapi_3_1_and_made_without_a_warning(capsys):
    """By one of two judges. `./pileus check` asks the other one as well, which takes four times as long."""
    call_command("spectacular", fail_on_warn=True)
    assert document()["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document()).validate()


def operations():
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", method, operation


def test_every_operation_names_its_refusals_and_has_an_id_of_its_own():
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(ids) == len(set(ids))
    for name, _, operation in operations():
        assert {"400", "401", "404", "429", "503"} <= operation["responses"].keys(), name
        assert "application/problem+json" in operation["responses"]["400"]["content"], name


def test_every_change_has_dry_run_and_idempotency_key():
    for name, method, operation in operations():
        parameters = {parameter["name"] for parameter in operation.get("parameters", ())}
        assert ({"dry_run", "Idempotency-Key"} <= parameters) == (method != "get"), name
        assert ("If-Match" in parameters) == (method in {"patch", "delete"}), name


def test_every_operation_says_what_it_does_and_who_may():
    said = {name: (operation["summary"], operation.get("description", "")) for name, _, operation in operations()}
    assert len(set(said.values())) == len(said)
    for name, (summary, description) in said.items():
        assert re.fullmatch(r"[A-Z][a-z]+( ([a-z]+|CD|NIC))*|Show who I am", summary), name
        assert not re.search("[Mm]ixin|A view|GET |self", description), name
        if "/projects/{project}" in name:
            assert "For those with the role" in description or "For admins of the cloud" in description, name
    assert said["POST /api/v1/projects/{project}/instances/{ref}/resume"] == (
        "Resume an instance",
        "It goes on where it was paused or suspended.\n\n"
        "For those with the role member in the project, or a higher one.",
    )
    assert said["PATCH /api/v1/projects/{project}/quota"][1] == "For admins of the cloud."


def test_every_code_of_the_catalogue_is_in_the_document():
    assert document()["components"]["schemas"]["CodeEnum"]["enum"] == sorted(CATALOGUE)


def test_the_schema_is_served_to_everybody(client, db):
    answer = client.get("/api/v1/schema")
    assert (answer.status_code, answer.json()["info"]["title"]) == (200, "Pileus")


@pytest.mark.parametrize("path", ["/api/v1/schema", "/api/v1/docs"])
def test_documents_are_read_only(client, db, path):
    assert client.post(path).status_code in {403, 405}
