"""Single sign-on, with a provider of our own on a real socket."""

import html
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from allauth.socialaccount.models import SocialAccount
from allauth.socialaccount.providers import registry
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from django.contrib.sessions.models import Session
from django.test import Client

from cloud.events.models import Event
from cloud.tenancy.models import User
from tests import factories

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("fresh_limits")]


class Provider(HTTPServer):
    """Says who it is told to say."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.who = {"sub": "42", "preferred_username": "Nia@example.org", "name": "Nia N.", "email": "nia@example.org"}
        self.exchanged: list[dict[str, list[str]]] = []


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        url = self.server.url
        known = {
            "/.well-known/openid-configuration": {
                "issuer": url, "authorization_endpoint": f"{url}/authorize", "token_endpoint": f"{url}/token",
                "userinfo_endpoint": f"{url}/userinfo", "jwks_uri": f"{url}/keys",
            },
            "/userinfo": self.server.who,
        }  # fmt: skip
        self.answer(known[self.path])

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.exchanged.append(parse_qs(body))
        self.answer({"access_token": "opaque", "token_type": "Bearer"})

    def answer(self, body):
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def provider(settings, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    registry.register(OpenIDConnectProvider)  # as the settings do where a provider is configured
    server = Provider()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.SINGLE_SIGN_ON = {
        "url": server.url, "client_id": "pileus", "secret": "hush", "name": "Example", "makes_users": False,
    }  # fmt: skip
    yield server
    server.shutdown()
    server.server_close()


def go_there(client: Client, **fields: str) -> dict[str, str]:
    """Begin, and what the provider is asked."""
    answer = client.post("/sign-in/single", fields)
    assert answer.status_code == 200
    url = html.unescape(re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', answer.content.decode())[1])  # type: ignore[index]
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def come_back(client: Client, asked: dict[str, str], **changes: str):
    return client.get(urlsplit(asked["redirect_uri"]).path, {"code": "c0de", "state": asked["state"], **changes})


def test_who_is_not_known_is_told_how_to_become_it(provider):
    client = Client()
    answer = come_back(client, go_there(client))
    assert answer.status_code == 403
    assert b"connect it under Account" in answer.content
    assert not User.objects.exists()


def test_a_user_connects_it_and_is_signed_in_by_it_from_then_on(provider):
    user = factories.user("mia")
    here = Client()
    here.force_login(user)
    answer = come_back(here, go_there(here, process="connect"))
    assert (answer.status_code, answer["Location"]) == (303, "/account/security")
    assert b"It signs you in" in here.get("/account/security").content
    assert Event.objects.filter(action="tenancy.user.connect_single_sign_on", actor="mia").exists()
    there = Client()
    answer = come_back(there, go_there(there, next="/projects"))
    assert (answer.status_code, answer["Location"]) == (303, "/projects")
    assert b"mia" in there.get("/projects").content
    assert "code_verifier" in provider.exchanged[-1]
    here.post(f"/account/single-sign-on/{SocialAccount.objects.get().pk}/forget")
    other = Client()
    assert come_back(other, go_there(other)).status_code == 403


def test_the_operator_may_let_it_make_users(provider, settings):
    settings.SINGLE_SIGN_ON["makes_users"] = True
    client = Client()
    assert come_back(client, go_there(client)).status_code == 303
    nia = User.objects.get()
    assert (nia.username, nia.full_name, nia.has_usable_password(), nia.is_cloud_admin) == (
        "nia",
        "Nia N.",
        False,
        False,
    )
    assert client.get("/account/security").status_code == 200
    again = Client()
    assert come_back(again, go_there(again)).status_code == 303
    assert User.objects.count() == 1


def test_a_name_that_is_taken_opens_nothing(provider, settings):
    settings.SINGLE_SIGN_ON["makes_users"] = True
    nia = factories.user("nia", email="nia@example.org")
    client = Client()
    assert come_back(client, go_there(client)).status_code == 409
    assert not SocialAccount.objects.filter(user=nia).exists()
    assert client.get("/account/tokens").status_code == 302


def test_the_second_factor_is_asked_for_here_too(provider):
    from allauth.mfa.models import Authenticator

    user = factories.user("mia")
    SocialAccount.objects.create(user=user, provider="company", uid="42")
    Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={"secret": "x"})
    client = Client()
    assert come_back(client, go_there(client))["Location"] == "/sign-in/second-factor"
    assert client.get("/account/tokens").status_code == 302


def test_who_may_not_sign_in_may_not_by_this_either(provider):
    user = factories.user("mia", is_active=False)
    SocialAccount.objects.create(user=user, provider="company", uid="42")
    client = Client()
    assert come_back(client, go_there(client))["Location"] == "/sign-in"
    assert client.get("/account/tokens").status_code == 302


@pytest.mark.parametrize("changes", [{"state": "forged"}, {"error": "access_denied"}])
def test_what_was_not_asked_for_here_opens_nothing(provider, changes):
    client = Client()
    answer = come_back(client, go_there(client), **changes)
    assert (answer.status_code, b"Single sign-on did not work" in answer.content) == (503, True)


def test_a_provider_that_is_away_is_said_so(provider, settings):
    settings.SINGLE_SIGN_ON["url"] = "http://127.0.0.1:1"
    answer = Client().post("/sign-in/single")
    assert (answer.status_code, b"does not answer" in answer.content) == (503, True)


def test_without_a_provider_there_is_no_button_and_no_way():
    assert b"/sign-in/single" not in Client().get("/sign-in").content
    assert Client().post("/sign-in/single").status_code == 404
    assert Client().get("/sign-in/single/company").status_code == 404


def test_a_stranger_begins_it_only_so_often(provider):
    """Each time costs a session, and a request to the provider."""
    answers = (Client(REMOTE_ADDR="198.51.100.77").post("/sign-in/single").status_code for _ in range(200))
    assert 429 in answers
    assert Session.objects.count() < 200
    assert Client(REMOTE_ADDR="203.0.113.77").post("/sign-in/single").status_code == 200
