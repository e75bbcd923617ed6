"""What a new one-machine cloud begins with, and what a second run leaves alone."""

import io
import json

import pytest
from django.core.management import call_command

from cloud.embedded.starters import FLAVORS
from cloud.events.models import Event
from cloud.tenancy.models import Membership, Role, Token, User
from compute.models import Flavor

pytestmark = pytest.mark.django_db

WISH = {
    "admin": {"username": "admin", "password": "an-admin-password", "token": ""},
    "demo": {"username": "demo", "password": "a-demo-password", "token": ""},
}


@pytest.fixture
def bootstrap(monkeypatch):
    def run(**wish):
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(WISH | wish)))
        out = io.StringIO()
        call_command("bootstrap", stdout=out)
        answer = json.loads(out.getvalue())
        return {who: WISH[who] | {"token": answer[who]["token"]} for who in WISH}

    return run


def test_a_new_cloud_has_an_admin_a_project_with_a_member_and_flavors(bootstrap):
    bootstrap()
    assert User.objects.get(username="admin").is_cloud_admin
    assert not User.objects.get(username="demo").is_cloud_admin
    assert Membership.objects.get(user__username="demo", project__name="demo").role == Role.MEMBER
    assert set(Flavor.objects.values_list("name", flat=True)) == set(FLAVORS)
    assert Event.objects.filter(actor="system", action="tenancy.project.create").count() == 1


def test_the_tokens_open_the_api(bootstrap, api):
    logins = bootstrap()
    assert api.as_(logins["admin"]["token"]).get("me").data["username"] == "admin"
    assert api.as_(logins["demo"]["token"]).get("me").data["username"] == "demo"


def test_a_second_run_keeps_everything_and_makes_no_token(bootstrap):
    logins = bootstrap()
    tenant = User.objects.get(username="demo")
    tenant.set_password("a-new-one-of-the-tenant")
    tenant.save()
    Flavor.objects.get(name="xlarge").delete()
    before = Event.objects.count()
    again = bootstrap(**logins)
    assert [again[who]["token"] for who in WISH] == [None, None]
    assert not Flavor.objects.filter(name="xlarge").exists()
    assert Event.objects.count() == before
    assert User.objects.get(username="demo").check_password("a-new-one-of-the-tenant")


def test_a_token_that_was_revoked_is_replaced_by_a_new_one(bootstrap):
    logins = bootstrap()
    Token.objects.get(user__username="demo").delete()
    again = bootstrap(**logins)
    assert again["admin"]["token"] is None
    assert again["demo"]["token"].startswith("pileus-")
    assert Token.objects.filter(user__username="demo").count() == 1


def test_lost_passwords_are_set_anew_and_only_then(bootstrap):
    bootstrap()
    lost = {who: WISH[who] | {"password": f"another-password-of-{who}"} for who in WISH}
    bootstrap(**lost)
    assert User.objects.get(username="admin").check_password("an-admin-password")
    bootstrap(**lost, set_passwords=True)
    assert User.objects.get(username="admin").check_password("another-password-of-admin")


def test_a_user_who_was_deleted_does_not_come_back(bootstrap):
    logins = bootstrap()
    User.objects.get(username="demo").delete()
    assert bootstrap(**logins)["demo"]["token"] is None
    assert not User.objects.filter(username="demo").exists()
