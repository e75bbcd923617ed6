"""Tokens and sessions."""

import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext

from cloud.tenancy.models import Token
from tests import factories


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Bearer x", "Bearer pileus-x y", "Basic bWlhOm1pYQ==", "Bearer \xfc", "bearer nonsense", "x"],
)
def test_what_is_no_token_is_401_with_a_challenge(api, header):
    answer = api.get("me", HTTP_AUTHORIZATION=header)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_a_stranger_is_401_on_every_method(api, project):
    for method in ("GET", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"):
        assert api.generic(method, "projects/demo").status_code == 401


def test_an_expired_token_and_one_of_an_inactive_user_are_401(api, member):
    assert api.as_(factories.token(member, expires_at=Now() - timedelta(seconds=1))).get("me").status_code == 401
    secret = factories.token(member)
    assert api.as_(secret).get("me").status_code == 200
    member.is_active = False
    member.save()
    assert api.as_(secret).get("me").status_code == 401


def test_a_token_is_kept_as_its_hash_only(api, member):
    secret = api.as_(member).post("tokens", {"name": "ci"}).json()["secret"]
    token = Token.objects.get(name="ci")
    assert secret not in str(vars(token))
    assert len(token.digest) == 64


def test_a_use_is_noted_once_a_minute(api, member):
    mia = api.as_(member)
    with CaptureQueriesContext(connection) as first:
        mia.get("flavors")
    with CaptureQueriesContext(connection) as second:
        mia.get("flavors")
    assert (len(first), len(second)) == (3, 2)
    assert Token.objects.get().last_used_at is not None
    Token.objects.update(last_used_at=Now() - timedelta(seconds=61))
    with CaptureQueriesContext(connection) as later:
        mia.get("flavors")
    assert len(later) == 3


def test_a_read_only_token_reads_and_changes_nothing(api, member):
    reader = api.as_(factories.token(member, read_only=True))
    assert reader.get("projects/demo/keypairs").status_code == 200
    for answer in (
        reader.post("projects/demo/keypairs", {"name": "laptop"}),
        reader.post("tokens", {"name": "wide"}),
        reader.patch("me", {"full_name": "Mia"}),
        reader.post("projects/demo/keypairs?dry_run=true", {"name": "laptop"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_a_token_for_one_project_opens_no_other_and_no_office(api, cloud_admin, project):
    other = factories.project("other")
    narrow = api.as_(factories.token(cloud_admin, project=project))
    assert narrow.get("projects/demo").status_code == 200
    assert narrow.get("projects/other").status_code == 404
    assert narrow.get(f"projects/{other.pk}").status_code == 404
    assert [item["name"] for item in narrow.get("projects").json()["items"]] == ["demo"]
    assert narrow.get("users").status_code == 403
    assert narrow.post("projects", {"name": "new"}).status_code == 403
    assert narrow.patch("projects/demo/quota", {"instances": 1}).status_code == 403
    assert narrow.patch("me", {"full_name": "Root"}).status_code == 403


def test_a_narrow_token_makes_no_wider_one(api, member, project):
    narrow = api.as_(factories.token(member, project=project))
    assert narrow.post("tokens", {"name": "wide"}).status_code == 403
    assert narrow.post("tokens", {"name": "same", "project": "demo"}).status_code == 201


def test_a_session_reads_and_changes_with_its_csrf_token_only(api, member, fresh_limits):
    browser = Browser(enforce_csrf_checks=True)
    browser.force_login(member)
    assert browser.get("/api/v1/me").json()["username"] == "mia"
    path, body = "/api/v1/projects/demo/keypairs", {"name": "laptop"}
    refused = browser.post(path, body, content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    browser.get("/api/v1/docs")
    token = browser.cookies["csrftoken"].value
    accepted = browser.post(path, body, content_type="application/json", headers={"X-CSRFToken": token})
    assert accepted.status_code == 201


def test_guessing_tokens_ends_in_429(api):
    where = str(uuid.uuid4())
    answers = (api.get("me", HTTP_AUTHORIZATION="Bearer wrong", REMOTE_ADDR=where).status_code for _ in range(1000))
    assert next(answers) == 401
    assert 429 in answers
