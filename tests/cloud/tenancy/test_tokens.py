"""One's own tokens."""

from datetime import timedelta

import pytest
from django.utils import timezone

from cloud.events.models import Event
from cloud.tenancy.models import Token
from tests import factories


def test_a_token_is_shown_once_opens_the_api_and_is_revoked_at_once(api, member):
    mia = api.as_(member)
    made = mia.post("tokens", {"name": "ci", "project": "demo", "read_only": True}).json()
    assert (made["project"]["name"], made["read_only"]) == ("demo", True)
    robot = api.as_(made["secret"])
    assert robot.get("projects/demo").status_code == 200
    assert "secret" not in mia.get("tokens/ci").json()
    assert mia.delete("tokens/ci").status_code == 204
    assert robot.get("projects/demo").status_code == 401
    assert made["secret"] not in str(Event.objects.values())


def test_the_default_life_is_90_days_and_an_end_can_be_given(api, member):
    mia = api.as_(factories.token(member, expires_at=timezone.now() + timedelta(days=100)))
    mia.post("tokens", {"name": "long"})
    life = Token.objects.get(name="long").expires_at - timezone.now()
    assert timedelta(days=89) < life <= timedelta(days=90)
    end = timezone.now() + timedelta(hours=1)
    made = mia.post("tokens", {"name": "short", "expires_at": end.isoformat()}).json()
    assert made["expires_at"][:19] == end.isoformat()[:19]
    small = mia.post("tokens", {"name": "small", "expires_at": f"{end:%Y-%m-%dt%H:%M:%Sz}"}).json()
    assert small["expires_at"][:19] == end.isoformat()[:19], "RFC 3339 lets both letters be small"


@pytest.mark.parametrize(
    "end", ["2001-01-01T00:00:00Z", "9999-01-01T00:00:00Z", "tomorrow", 7, None, "0001-01-01T00:00:00+14:00"]
)
def test_an_end_that_cannot_be_is_refused(api, member, end):
    answer = api.as_(member).post("tokens", {"name": "ci", "expires_at": end})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/expires_at")
    assert not Token.objects.filter(name="ci").exists()


def test_a_project_that_is_not_there_and_one_that_is_invisible_get_the_same_words(api, member):
    factories.project("secret")
    faults = [
        api.as_(member).post("tokens", {"name": "ci", "project": name}).json()["errors"]
        for name in ("secret", "nothing", str(factories.project().pk), "01234567-89ab-cdef-0123-456789abcdef")
    ]
    assert faults[0][0]["code"] == "not_found"
    assert all(fault == faults[0] for fault in faults)


def test_tokens_of_others_are_not_there(api, member, cloud_admin):
    api.as_(member).post("tokens", {"name": "ci"})
    token = Token.objects.get(name="ci")
    for reference in ("ci", token.pk):
        assert api.as_(cloud_admin).get(f"tokens/{reference}").status_code == 404
        assert api.as_(cloud_admin).delete(f"tokens/{reference}").status_code == 404


def test_a_name_is_used_once(api, member):
    api.as_(member).post("tokens", {"name": "ci"})
    answer = api.as_(member).post("tokens", {"name": "ci"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (409, "/name")


def test_a_token_of_a_removed_member_sees_the_project_no_more(api, member, project_admin):
    mia = api.as_(member)
    api.as_(project_admin).delete("projects/demo/members/mia")
    assert mia.get("projects/demo").status_code == 404
    assert mia.get("me").status_code == 200
