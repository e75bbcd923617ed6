"""The second factor and sessions, as a browser sees them."""

import re

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.test import Client
from django.utils import timezone

from cloud.events.models import Event
from cloud.tenancy.models import BrowserSession
from tests import factories
from tests.cloud.dashboard.reading import Reader

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fresh_limits")]
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def code_of(secret: str, offset: int = 0) -> str:
    return format_hotp_value(hotp_value(secret.replace(" ", ""), list(yield_hotp_counters_from_time())[1] + offset))


def sign_in(user, **options) -> tuple[Client, object]:
    client = Reader(headers={"user-agent": FIREFOX}, **options)
    return client, client.post("/sign-in", {"username": user.username, "password": user.username * 2})


@pytest.fixture
def user(db):
    return factories.user()


@pytest.fixture
def secured(user) -> tuple[str, list[str]]:
    """The user with a second factor: its secret, and the recovery codes."""
    client, _ = sign_in(user)
    page = client.get("/account/second-factor").content.decode()
    secret = re.search(r"<pre>([A-Z2-7 ]+)</pre>", page)[1]  # type: ignore[index]
    body = {"code": code_of(secret, -1), "current_password": user.username * 2}
    answer = client.post("/account/second-factor", body)
    return secret, re.search(r"<pre>([\d\s]+)</pre>", answer.content.decode())[1].split()  # type: ignore[index]


def test_a_password_alone_opens_nothing_once_the_second_factor_is_on(user, secured):
    secret, codes = secured
    client, answer = sign_in(user)
    assert (answer.status_code, answer["Location"]) == (303, "/sign-in/second-factor")
    assert client.get("/account/tokens").status_code == 302
    assert client.get("/api/v1/me").status_code == 401
    assert client.post("/sign-in/second-factor", {"code": "000000"}).status_code == 401
    answer = client.post("/sign-in/second-factor", {"code": code_of(secret)})
    assert (answer.status_code, answer["Location"]) == (303, "/")
    assert client.get("/account/tokens").status_code == 200
    assert len(codes) == 10


def test_a_code_opens_once(user, secured):
    secret, (recovery, *_) = secured
    for code in (code_of(secret), recovery):
        first, second = sign_in(user)[0], sign_in(user)[0]
        assert first.post("/sign-in/second-factor", {"code": code}).status_code == 303
        assert second.post("/sign-in/second-factor", {"code": code}).status_code == 401


def test_guessing_codes_is_bounded(user, secured):
    client, _ = sign_in(user)
    answers = [client.post("/sign-in/second-factor", {"code": "000000"}).status_code for _ in range(12)]
    assert answers[-1] == 429
    assert client.post("/sign-in/second-factor", {"code": code_of(secured[0])}).status_code == 429


def test_secrets_are_kept_encrypted_and_shown_once(user, secured):
    secret, _ = secured
    assert secret.replace(" ", "") not in str(list(Authenticator.objects.values_list("data", flat=True)))
    client, _ = sign_in(user)
    client.post("/sign-in/second-factor", {"code": code_of(secret)})
    page = client.get("/account/security").content.decode()
    assert "<strong>10</strong> recovery codes are left" in page
    assert client.get("/account/second-factor").status_code == 303
    told = str(list(Event.objects.values()))
    assert "switch_on_second_factor" in told
    assert secret.replace(" ", "") not in told


def test_a_wrong_code_or_password_switches_nothing_on(user):
    client, _ = sign_in(user)
    client.get("/account/second-factor")
    answer = client.post("/account/second-factor", {"code": "000000", "current_password": user.username * 2})
    assert (answer.status_code, b'id="faults-code"' in answer.content) == (400, True)
    answer = client.post("/account/second-factor", {"code": "000000", "current_password": "guess"})
    assert (answer.status_code, b'id="faults-current_password"' in answer.content) == (400, True)
    assert not Authenticator.objects.exists()


def test_it_is_switched_off_and_codes_renewed_with_the_password_only(user, secured):
    secret, codes = secured
    client, _ = sign_in(user)
    client.post("/sign-in/second-factor", {"code": code_of(secret)})
    assert client.post("/account/security", {"verb": "switch-off", "current_password": "guess"}).status_code == 400
    answer = client.post("/account/security", {"verb": "renew-codes", "current_password": user.username * 2})
    renewed = re.search(r"<pre>([\d\s]+)</pre>", answer.content.decode())[1].split()  # type: ignore[index]
    assert not set(renewed) & set(codes)
    client.post("/account/security", {"verb": "switch-off", "current_password": user.username * 2})
    assert not Authenticator.objects.exists()
    assert sign_in(user)[1]["Location"] == "/"


def test_an_admin_resets_it_and_that_is_written_down(api, user, secured, cloud_admin, page_of):
    page = page_of(cloud_admin)
    assert b"Switch it off" in page.get(f"/cloud/users/{user.pk}").content
    assert page.post(f"/cloud/users/{user.pk}/second-factor").status_code == 303
    assert sign_in(user)[1]["Location"] == "/"
    event = Event.objects.get(action="tenancy.user.switch_off_second_factor")
    assert (event.actor, event.subject_name) == ("root", user.username)
    assert api.as_(cloud_admin).delete(f"users/{user.username}/second-factor").status_code == 409


def test_tokens_are_not_asked_for_a_second_factor(api, user, secured):
    assert api.as_(user).get("me").status_code == 200


def test_sessions_are_listed_and_ended(api, user):
    (here, _), (there, _) = sign_in(user), sign_in(user)
    assert there.get("/account/tokens").status_code == 200
    page = here.get("/account/security").content.decode()
    assert page.count("Firefox on Linux</span>") == 2
    assert page.count(">this one<") == 1
    other = BrowserSession.objects.get(session_key=there.session.session_key)
    assert len(api.as_(user).get("sessions").json()["items"]) == 2
    assert here.post(f"/account/sessions/{other.pk}/end").status_code == 303
    assert there.get("/account/tokens").status_code == 302
    assert here.get("/account/tokens").status_code == 200
    assert here.post(f"/account/sessions/{other.pk}/end").status_code == 404


def test_all_others_are_ended_at_once_and_strangers_cannot(user, member):
    clients = [sign_in(user)[0] for _ in range(3)]
    for client in clients:
        client.get("/account/security")
    stranger, _ = sign_in(member)
    own = BrowserSession.objects.filter(user=user).first()
    assert stranger.post(f"/account/sessions/{own.pk}/end").status_code == 404
    stranger.post("/account/sessions/end")
    clients[0].post("/account/sessions/end")
    assert [client.get("/account/security").status_code for client in clients] == [200, 302, 302]


def test_a_new_password_ends_the_others_and_keeps_this_one(user):
    (here, _), (there, _) = sign_in(user), sign_in(user)
    for client in (here, there):
        client.get("/account/security")
    word = "correct-horse-battery"
    here.post("/account/password", {"current_password": user.username * 2, "password": word})
    assert there.get("/account/security").status_code == 302
    assert b"this one" in here.get("/account/security").content
    assert BrowserSession.objects.filter(user=user).count() == 1


def test_what_an_admin_has_ended_is_not_listed(api, user, cloud_admin):
    client, _ = sign_in(user)
    client.get("/account/security")
    mine = api.as_(user)
    assert len(mine.get("sessions").json()["items"]) == 1
    api.as_(cloud_admin).patch(f"users/{user.username}", {"password": "correct-horse-battery"})
    assert mine.get("sessions").status_code == 401
    assert api.as_(user).get("sessions").json()["items"] == []
    assert client.get("/account/security").status_code == 302


def test_looking_around_writes_down_a_session_once_in_a_while(user, django_assert_num_queries):
    client, _ = sign_in(user)
    client.get("/account/security")
    seen = BrowserSession.objects.get(user=user).last_seen_at
    client.get("/account/security")
    assert BrowserSession.objects.get(user=user).last_seen_at == seen < timezone.now()
