"""Signing in and out."""

import uuid

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client

from cloud.events.models import Event
from cloud.tenancy.models import Membership, Role
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def visitor():
    return somebody()


def somebody():
    """At an address of their own, so that no other test's failures count."""
    number = uuid.uuid4().int
    return Client(REMOTE_ADDR=f"10.{number % 250}.{number // 250 % 250}.{number // 62500 % 250}")


def sign_in(client, username, password, **more):
    return client.post("/sign-in", {"username": username, "password": password, **more})


def test_the_right_password_leads_to_where_one_wanted_to_go(visitor, member):
    answer = sign_in(visitor, "mia", "miamia", next="/projects/demo/instances")
    assert (answer.status_code, answer["Location"]) == (303, "/projects/demo/instances")
    assert visitor.get("/projects/demo").status_code == 200


def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(visitor, member):
    wrong, unknown = sign_in(visitor, "mia", "nonsense"), sign_in(visitor, "nobody", "nonsense")
    assert wrong.status_code == unknown.status_code == 401

    def words(answer):
        return answer.content.decode().partition("<form")[2].partition("csrf")[2].replace("nobody", "mia")[64:]

    assert "wrong" in words(wrong)
    assert words(wrong).partition("<h1>")[2] == words(unknown).partition("<h1>")[2]


def test_guessing_is_slowed_down_for_known_and_unknown_users_alike(visitor, settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # so that it is about the counting
    for name in (factories.user(factories.name("known")).username, factories.name("unknown")):
        answers = [sign_in(visitor, name, "guess") for _ in range(25)]
        assert answers[0].status_code in (401, 429)
        assert answers[-1].status_code == 429
        assert int(answers[-1]["Retry-After"]) > 0
        assert b"Wait" in answers[-1].content


def test_strangers_who_guess_do_not_keep_the_owner_out(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    name = factories.user(factories.name("besieged")).username
    owner, newcomer, *strangers = (somebody() for _ in range(5))
    assert sign_in(owner, name, name * 2).status_code == 303
    owner.post("/sign-out")
    for stranger in strangers:
        guesses = [sign_in(stranger, name, "guess").status_code for _ in range(15)]
    assert guesses[-1] == 429
    assert sign_in(newcomer, name, name * 2).status_code == 429, "an address that nobody knows is a stranger's"
    assert sign_in(owner, name, name * 2).status_code == 303


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "/\\evil"])
def test_nobody_is_led_to_another_site(visitor, member, elsewhere):
    assert sign_in(visitor, "mia", "miamia", next=elsewhere)["Location"] == "/"


def test_signing_out_ends_the_session(visitor, member):
    sign_in(visitor, "mia", "miamia")
    assert visitor.get("/sign-out").status_code == 405
    assert visitor.post("/sign-out")["Location"] == "/sign-in"
    assert visitor.get("/projects/demo").status_code == 302


def test_a_sign_out_is_told_together_with_the_end_of_its_session(visitor, member, monkeypatch):
    """Streams look at the session when they hear of the event: it has to be gone by then."""
    sign_in(visitor, "mia", "miamia")
    visitor.raise_request_exception = False
    with monkeypatch.context() as patch:
        patch.setattr(SessionStore, "flush", lambda self: 1 / 0)
        assert visitor.post("/sign-out").status_code == 500
    assert "sign_out" not in dict(lately(member))
    visitor.post("/sign-out")
    assert "sign_out" in dict(lately(member))


def test_a_form_without_its_token_is_refused_in_words(member):
    client = Client(enforce_csrf_checks=True)
    client.force_login(member)
    answer = client.post("/projects/demo/keypairs", {"name": "x"})
    assert answer.status_code == 403
    assert b"cannot be trusted" in answer.content


def test_the_theme_is_kept_and_rendered(page_of, member):
    client = page_of(member)
    assert client.post("/theme", {"theme": "dark", "next": "/projects/demo"})["Location"] == "/projects/demo"
    assert b'data-theme="dark"' in client.get("/projects/demo").content
    client.post("/theme", {"theme": '"><script>'})
    assert b'data-theme="dark"' in client.get("/projects/demo").content


def test_home_is_the_project_that_was_looked_at_last(page_of, member):
    Membership.objects.create(project=factories.project("zoo"), user=member, role=Role.VIEWER)
    client = page_of(member)
    assert client.get("/")["Location"] == "/projects/demo"
    client.get("/projects/zoo")
    assert client.get("/")["Location"] == "/projects/zoo"


def test_what_is_not_there_has_a_page_of_its_own(page_of, member):
    for path in ("/nonsense", "/projects/nonsense", "/projects/demo/instances/00000000-0000-4000-8000-000000000000"):
        answer = page_of(member).get(path)
        assert answer.status_code == 404
        assert b"Not found" in answer.content


def lately(user):
    found = Event.objects.filter(subject_id=str(user.pk), action__contains="sign").order_by("id")
    return [(event.action.rpartition(".")[2], event.after) for event in found]


def test_coming_in_being_refused_and_leaving_are_written_down(visitor, member):
    sign_in(visitor, "mia", "guessed")
    sign_in(visitor, "nobody-here", "guessed")
    sign_in(visitor, "mia", "miamia")
    address = visitor.defaults["REMOTE_ADDR"]
    page = visitor.get("/account/security").content.decode()
    somebody = f'Somebody at <span class="mono">{address}</span>'
    assert f'{somebody} failed to sign in as <span class="strong">mia</span>' in page
    visitor.post("/sign-out")
    assert lately(member) == [
        ("refuse_sign_in", {"address": address, "gave": "a wrong password"}),
        ("sign_in", {"address": address, "second_factor": False}),
        ("sign_out", {"address": address}),
    ]
    [attempt] = Event.objects.filter(subject_name="nobody-here")
    assert (attempt.action, attempt.actor) == ("tenancy.user.refuse_sign_in", address)


def test_somebody_who_goes_on_guessing_is_written_down_once_a_minute(visitor, db):
    somebody = factories.user(f"u{uuid.uuid4().hex[:12]}")
    for _ in range(23):
        sign_in(visitor, somebody.username, "guessed")
    assert [facts["gave"] for _, facts in lately(somebody)] == ["a wrong password"] * 20 + ["too many tries"]
