"""Users, and one's own account."""

import uuid

import pytest
from django.test import Client as Browser

from cloud.events.models import Event
from cloud.problems import Problem
from cloud.tenancy import accounts
from cloud.tenancy.models import Token, User
from tests import factories

GOOD = "correct-horse-7"


def test_an_admin_creates_a_user_who_can_sign_in(api, cloud_admin, fresh_limits):
    answer = api.as_(cloud_admin).post("users", {"username": "nina", "password": GOOD, "email": "nina@example.org"})
    assert (answer.status_code, answer.json()["secret"]) == (201, None)
    assert accounts.sign_in(username="nina", password=GOOD, address=factories.name("somewhere")).username == "nina"
    assert GOOD not in str(Event.objects.values())


def test_without_a_password_one_is_made_up_and_shown_once(api, cloud_admin, fresh_limits):
    admin = api.as_(cloud_admin)
    secret = admin.post("users", {"username": "nina"}).json()["secret"]
    assert accounts.sign_in(username="nina", password=secret, address=factories.name("somewhere"))
    assert "secret" not in admin.get("users/nina").json()


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"username": "nina", "password": "short"}, {"/password"}),
        ({"username": "nina", "password": "password1"}, {"/password"}),
        ({"username": "Nina", "password": GOOD}, {"/username"}),
        ({"username": "7" * 64}, {"/username"}),
        ({"username": "01234567-89ab-cdef-0123-456789abcdef"}, {"/username"}),
        ({"username": "nina", "email": "nowhere", "is_active": True, "is_cloud_admin": "yes"},
         {"/email", "/is_active", "/is_cloud_admin"}),
    ],
)  # fmt: skip
def test_every_fault_is_named(api, cloud_admin, body, pointers):
    answer = api.as_(cloud_admin).post("users", body)
    assert answer.status_code == 400
    assert {fault["pointer"] for fault in answer.json()["errors"]} == pointers


def test_a_user_name_taken_is_a_conflict(api, cloud_admin, member):
    answer = api.as_(cloud_admin).post("users", {"username": "mia"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (409, "/username")


def test_deactivating_ends_tokens_and_sessions_for_good(api, cloud_admin, member):
    admin, mia = api.as_(cloud_admin), api.as_(member)
    browser = Browser()
    browser.force_login(member)
    assert browser.get("/api/v1/me").status_code == mia.get("me").status_code == 200
    admin.patch("users/mia", {"is_active": False})
    assert browser.get("/api/v1/me").status_code == mia.get("me").status_code == 401
    admin.patch("users/mia", {"is_active": True})
    assert browser.get("/api/v1/me").status_code == mia.get("me").status_code == 401


def test_a_new_password_ends_the_other_sessions_and_not_this_one(member, client):
    here, there = Browser(), Browser()
    here.force_login(member)
    there.force_login(member)
    body = {"password": GOOD, "current_password": "miamia"}
    answer = here.patch("/api/v1/me", body, content_type="application/json")
    assert answer.status_code == 200, answer.json()
    assert here.get("/api/v1/me").status_code == 200
    assert there.get("/api/v1/me").status_code == 401


def test_a_dry_run_of_a_new_password_leaves_this_session_open(member):
    here = Browser()
    here.force_login(member)
    body = {"password": GOOD, "current_password": "miamia"}
    assert here.patch("/api/v1/me?dry_run=true", body, content_type="application/json").status_code == 200
    assert here.get("/api/v1/me").status_code == 200


def test_a_new_password_needs_the_present_one(api, member):
    for body in ({"password": GOOD}, {"password": GOOD, "current_password": "wrong"}):
        answer = api.as_(member).patch("me", body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/current_password")
    member.refresh_from_db()
    assert member.check_password("miamia")


def test_nobody_makes_himself_more_than_he_is(api, member):
    answer = api.as_(member).patch("me", {"is_cloud_admin": True, "username": "root2", "id": "x"})
    assert {fault["pointer"] for fault in answer.json()["errors"]} == {"/is_cloud_admin", "/username", "/id"}


def test_me_tells_projects_roles_and_the_token(api, member, project):
    factories.project("invisible")
    me = api.as_(factories.token(member, read_only=True)).get("me").json()
    assert me["projects"] == [{"id": str(project.pk), "name": "demo", "role": "member"}]
    assert (me["token"]["read_only"], me["token"]["project"]) == (True, None)


@pytest.mark.parametrize("body", [{"is_active": False}, {"is_cloud_admin": False}, None])
def test_the_last_admin_of_the_cloud_stays(api, cloud_admin, body):
    admin = api.as_(cloud_admin)
    answer = admin.delete("users/root") if body is None else admin.patch("users/root", body)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    factories.user("second", is_cloud_admin=True)
    answer = admin.delete("users/root") if body is None else admin.patch("users/root", body)
    assert answer.status_code in {200, 204}


def test_the_only_admin_of_a_project_with_others_in_it_stays(api, cloud_admin, project_admin, member):
    answer = api.as_(cloud_admin).delete("users/ada")
    assert answer.status_code == 409
    assert "demo" in answer.json()["detail"]
    assert api.as_(cloud_admin).delete("users/mia").status_code == 204
    assert api.as_(cloud_admin).delete("users/ada").status_code == 204
    assert not User.objects.filter(username="ada").exists()


def test_a_deleted_user_leaves_no_token(api, cloud_admin, member, project_admin):
    mia = api.as_(member)
    api.as_(cloud_admin).delete("users/mia")
    assert mia.get("me").status_code == 401
    assert not Token.objects.filter(user=member).exists()


def test_users_are_for_admins_of_the_cloud(api, project_admin, member):
    for method, path in (("get", "users"), ("post", "users"), ("get", "users/mia"), ("patch", "users/mia"),
                         ("delete", "users/mia")):  # fmt: skip
        assert getattr(api.as_(project_admin), method)(path).status_code == 403


def test_guessing_passwords_ends_in_429(db, fresh_limits):
    user, where = factories.user(), str(uuid.uuid4())

    def guess():
        with pytest.raises(Problem) as refused:
            accounts.sign_in(username=user.username, password="wrong", address=where)
        return refused.value.code

    assert guess() == "unauthenticated"
    assert any(guess() == "rate_limited" for _ in range(200))


def test_an_unknown_name_is_refused_in_the_same_words_as_a_wrong_password(db, fresh_limits):
    said = set()
    for username in (factories.user().username, factories.name("nobody"), "\x00"):
        with pytest.raises(accounts.WrongCredentials) as refused:
            accounts.sign_in(username=username, password="wrong", address=factories.name("somewhere"))
        said.add((refused.value.detail, refused.value.status))
    assert len(said) == 1
