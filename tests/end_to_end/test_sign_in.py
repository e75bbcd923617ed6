"""The ways in, in a real browser: a password with a second factor, the company's provider; and being signed out."""

import os
import threading
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.test import override_settings
from playwright.sync_api import Page, expect

from tests import factories
from tests.cloud.dashboard.test_security import code_of
from tests.cloud.dashboard.test_single_sign_on import Answers, Provider
from tests.servers import REAL_HASHERS

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


class Desk(Answers):
    """A provider that people see, too: it asks who they are, and sends them back with a code."""

    def do_GET(self):
        if self.path == "/favicon.ico":
            return self.answer({})
        if not self.path.startswith("/authorize"):
            return super().do_GET()
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        back = f"{asked['redirect_uri']}?{urlencode({'code': 'once', 'state': asked['state']})}"
        page = f'<!doctype html><title>Example</title><h1>Example</h1><a href="{back}">Go on as Nia</a>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)
        return None


@pytest.fixture(scope="module", autouse=True)
def provider():
    """Before `servers`: web reads who it is when it starts."""
    server = Provider()
    server.RequestHandlerClass = Desk
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told = {
        "PILEUS_OIDC_URL": server.url, "PILEUS_OIDC_CLIENT_ID": "pileus", "PILEUS_OIDC_CLIENT_SECRET": "hush",
        "PILEUS_OIDC_NAME": "Example", "PILEUS_OIDC_MAKES_USERS": "1", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    yield server
    for name, value in before.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value
    server.shutdown()
    server.server_close()


@pytest.fixture
def mia():
    with override_settings(PASSWORD_HASHERS=REAL_HASHERS):  # as web checks them
        return factories.member(factories.project("demo"), username=factories.name("mia"))


def give(page: Page, username: str) -> None:
    page.goto("/sign-in")
    page.get_by_label("User name").fill(username)
    page.get_by_label("Password").fill(username * 2)
    page.get_by_role("button", name="Sign in", exact=True).click()


def test_a_second_factor_is_switched_on_asked_for_and_replaced_by_a_recovery_code(visit, servers, mia):
    here = visit()
    page = here.sign_in(mia.username)
    page.goto("/account/security")
    page.get_by_role("link", name="Switch it on").click()
    expect(page.get_by_role("img", name="QR code")).to_be_visible()
    secret = page.locator(".code pre").inner_text()
    page.get_by_label("Code").fill("000000")
    page.get_by_label("Present password").fill(mia.username * 2)
    page.get_by_role("button", name="Switch it on").click()
    expect(page.get_by_text("This is not the code").first).to_be_visible()
    assert here.serious_faults() == []
    page.get_by_label("Code").fill(code_of(secret))
    page.get_by_label("Present password").fill(mia.username * 2)
    page.get_by_role("button", name="Switch it on").click()
    expect(page.get_by_text("The second factor is on")).to_be_visible()
    codes = page.locator(".code pre").inner_text().split()
    page.get_by_role("link", name="I have kept them").click()
    expect(page.get_by_text("10 recovery codes are left")).to_be_visible()

    elsewhere = visit()
    other = elsewhere.page
    give(other, mia.username)
    expect(other.get_by_role("heading", name="Second factor")).to_be_visible()
    assert elsewhere.serious_faults() == []
    other.get_by_label("Code").fill("123456")
    other.get_by_role("button", name="Sign in").click()
    expect(other.get_by_text("This code does not open")).to_be_visible()
    other.get_by_label("Code").fill(code_of(secret, 1))  # the one that is used opens once
    other.get_by_role("button", name="Sign in").click()
    expect(other.get_by_role("heading", name="demo")).to_be_visible()

    third = visit()
    give(third.page, mia.username)
    third.page.get_by_label("Code").fill(codes[0])
    third.page.get_by_role("button", name="Sign in").click()
    expect(third.page.get_by_role("heading", name="demo")).to_be_visible()
    third.page.goto("/account/security")
    expect(third.page.get_by_text("9 recovery codes are left")).to_be_visible()

    # Three browsers are signed in; from the first, the others are signed out: one, then all.
    page.goto("/account/security")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(page.get_by_text("Somebody at").first).to_be_visible()  # the wrong code
    assert here.serious_faults() == []
    rows.filter(has_not_text="this one").first.get_by_role("button", name="Sign out").click()
    expect(rows).to_have_count(2)
    page.get_by_role("button", name="Sign out everywhere else").click()
    page.get_by_role("dialog").get_by_role("button", name="Sign out everywhere else").click()
    expect(rows).to_have_count(1)
    for visitor in (elsewhere, third):
        visitor.page.goto("/projects/demo")
        expect(visitor.page.get_by_role("button", name="Sign in", exact=True)).to_be_visible()


def test_the_companys_provider_signs_somebody_new_in_and_out(visit, servers, provider):
    provider.who = {**provider.who, "sub": factories.name("sub"), "preferred_username": factories.name("nia")}
    here = visit()
    page = here.page
    page.goto("/sign-in")
    assert here.serious_faults() == []
    page.get_by_role("button", name="Example").click()
    page.get_by_role("link", name="Go on as Nia").click()
    expect(page.get_by_text(provider.who["preferred_username"]).first).to_be_visible()
    page.goto("/account/security")
    expect(page.get_by_text(f"It signs you in: {provider.who['sub']}")).to_be_visible()
    assert here.serious_faults() == []
    page.get_by_text(provider.who["preferred_username"], exact=True).first.click()
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page.get_by_label("User name")).to_be_visible()
