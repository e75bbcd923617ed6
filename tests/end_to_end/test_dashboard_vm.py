"""The dashboard of a real cloud, and a real virtual machine: from signing in to seeing it run, stop and go."""

import re

import pytest
from playwright.sync_api import expect

from tests.end_to_end.browsers import DESK, Visitor, chromium
from tests.end_to_end.machines import OneMachine

pytestmark = [pytest.mark.vm, pytest.mark.browser, pytest.mark.timeout(900)]

BOOTED = re.compile(r"READY browsed \d+\.\d")
PATIENCE = 180_000  # ms: emulated, on a machine that may have much else to do


def test_a_tenant_launches_watches_stops_and_deletes_a_real_machine(machine: OneMachine):
    login = machine.credentials["demo"]
    with chromium() as browser:
        visitor = Visitor(browser, machine.credentials["url"], viewport=DESK)
        page = visitor.sign_in(login["username"], login["password"])
        page.goto("/projects/demo/instances")
        expect(page.get_by_role("link", name="first").first).to_be_visible()
        page.get_by_role("link", name="Launch").first.click()
        page.get_by_label("Name", exact=True).fill("browsed")
        expect(page.locator("#preview")).to_contain_text("A host has room")
        page.get_by_role("button", name="Launch", exact=True).click()
        page.get_by_role("link", name="Go to browsed").click()  # from its password, which is shown once
        pill = page.locator("#instance-head .pill")
        expect(pill).to_have_text("running", timeout=PATIENCE)
        expect(page.get_by_role("log")).to_contain_text(BOOTED, timeout=PATIENCE)
        page.get_by_role("link", name="Stop").click()
        page.get_by_role("dialog").get_by_role("button", name="Stop").click()
        expect(pill).to_have_text("stopped", timeout=PATIENCE)
        page.get_by_role("button", name="Start").click()
        expect(pill).to_have_text("running", timeout=PATIENCE)
        page.locator("#instance-head summary").click()
        page.get_by_role("link", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page.get_by_role("link", name="browsed", exact=True)).to_have_count(0, timeout=PATIENCE)
        assert visitor.complaints == []
    done = machine.pileus("verify", check=False)
    assert done.returncode == 0, done.stdout
