"""Rights end when what they came from ends; names are whole, and nobody goes by the cloud's own."""

from datetime import timedelta

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.apps import apps
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.utils import timezone

from cloud.events.services import SYSTEM
from cloud.pages import forms
from cloud.problems import Invalid
from cloud.tenancy import accounts, second_factor
from cloud.tenancy.models import Token

PASSWORD = "a long and new one 7"


def token(user, **more):
    made, secret = accounts.create_token(user=user, actor=SYSTEM, name="t", **more)
    return Token.objects.get(pk=made.pk), secret


@pytest.mark.django_db
@pytest.mark.parametrize("asked", [None, timedelta(days=3650), timedelta(hours=2)])
def test_a_token_makes_none_that_outlives_it(member, asked):
    short, _ = token(member, expires_at=timezone.now() + timedelta(hours=1))
    expires_at = asked and timezone.now() + asked
    if asked:
        with pytest.raises(Invalid, match="lives longer"):
            accounts.create_token(user=member, actor=SYSTEM, name="child", made_with=short, expires_at=expires_at)
    else:
        child, _ = accounts.create_token(user=member, actor=SYSTEM, name="child", made_with=short)
        assert Token.objects.get(pk=child.pk).expires_at <= short.expires_at


@pytest.mark.django_db
@pytest.mark.parametrize("who", ["the user", "an admin"])
def test_a_new_password_ends_all_tokens(api, member, cloud_admin, who):
    member.set_password(PASSWORD)
    member.save()
    _, secret = token(member)
    assert api.as_(secret).get("me").status_code == 200
    if who == "the user":
        changes = {"password": f"{PASSWORD}!", "current_password": PASSWORD}
        assert api.as_(secret).patch("me", changes).status_code == 200
    else:
        answer = api.as_(cloud_admin).patch(f"users/{member.username}", {"password": f"{PASSWORD}!"})
        assert answer.status_code == 200
    assert api.as_(secret).get("me").status_code == 401


@pytest.mark.django_db
def test_a_token_gives_no_password_to_an_account_without_one(api, member):
    member.set_unusable_password()
    member.save()
    _, secret = token(member)
    answer = api.as_(secret).patch("me", {"password": PASSWORD})
    assert answer.status_code == 403
    member.refresh_from_db()
    assert not member.has_usable_password()


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["system", "guest", "host", "127.0.0.1", "nobody"])
def test_nobody_goes_by_a_name_of_the_event_log(api, cloud_admin, name):
    with pytest.raises(Invalid, match="itself goes by"):
        accounts.create_user(actor=SYSTEM, username=name)
    assert api.as_(cloud_admin).post("users", {"username": name}).status_code == 400


@pytest.mark.django_db
@pytest.mark.parametrize(("method", "path"), [("get", "hosts"), ("post", "hosts/join-tokens"), ("get", "users")])
def test_a_refused_try_at_an_admins_function_is_written_down(api, member, monkeypatch, method, path):
    said = []
    monkeypatch.setattr("cloud.api.scope.log.warning", lambda words, *facts: said.append(words % facts))
    assert getattr(api.as_(member), method)(path).status_code == 403
    (line,) = said
    assert f"refused_admin_function user={member.username}" in line


NAMED = {
    field: validator
    for model in apps.get_models()
    for field in model._meta.get_fields()
    for validator in getattr(field, "validators", [])
    if type(field).__module__.startswith(("cloud", "compute", "storage", "network"))
    and isinstance(validator, RegexValidator)
    or getattr(field, "name", "") == "username"
    and isinstance(validator, RegexValidator)
}


@pytest.mark.parametrize("field", NAMED, ids=str)
def test_no_name_ends_in_a_newline(field):
    NAMED[field]("web")
    for end in ("\n", "\r\n", "\n\n", "\r", "\u2028"):
        with pytest.raises(ValidationError):
            NAMED[field](f"web{end}")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("projects", {"name": "web\n"}),
        ("users", {"username": "web\n"}),
        ("flavors", {"name": "web\n", "vcpus": 1, "memory_mib": 64, "disk_gib": 1}),
        ("projects/demo/keypairs", {"name": "web\n"}),
        ("me/tokens", {"name": "web\n"}),
    ],
)
def test_the_api_takes_no_name_that_ends_in_a_newline(api, cloud_admin, project, path, body):
    assert api.as_(cloud_admin).post(path, body).status_code in (400, 404)


@pytest.mark.django_db
@pytest.mark.parametrize("moment", ["9999-12-31T23:59", "9999-12-31T23:59:59.999999", "0001-01-01T00:00", "2026-11-29"])
def test_moments_at_the_ends_of_time_are_moments(client, cloud_admin, moment):
    client.force_login(cloud_admin)
    assert client.get("/audit", {"as_of": moment}).status_code in (200, 404)


def test_labels_that_are_nested_too_deep_are_the_api_to_refuse():
    assert forms.labels_in('{"a":' * 60_000) is not None


@pytest.mark.django_db
def test_a_second_factor_ends_what_the_password_alone_began(member):
    before = member.get_session_auth_hash()
    secret = second_factor.make_secret()
    plain = second_factor.MFAAdapter().decrypt(secret)
    code = format_hotp_value(hotp_value(plain, next(yield_hotp_counters_from_time())))
    second_factor.switch_on(user=member, actor=SYSTEM, secret=secret, code=code)
    member.refresh_from_db()
    assert member.get_session_auth_hash() != before
