"""A real browser at real web and streams processes. The machines behind them are the fake hypervisor's."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from django.contrib.staticfiles import finders
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from cloud.pages import assets

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
# What the browser says of an answer that refuses, which pages tell in their own words; of a page that is left while it
# still comes into sight; and xterm.js on a busy machine.
EXPECTED = ("status of 4", "status of 502", "status of 503", "Transition was skipped", "task queue exceeded")
TOO_WIDE = """
[document.documentElement, ...document.querySelectorAll(".card.flush")]
    .filter((element) => element.scrollWidth > element.clientWidth)
    .map((element) => `${element.scrollWidth - element.clientWidth} px too wide: ` +
        element.innerText.slice(0, 60).replaceAll("\\n", " "))
"""
# Of those that axe-core runs by itself, the ones about colours.
COLOUR_RULES = ["color-contrast", "link-in-text-block"]
# Whatever changes is at its end at once. By a sheet that is no part of the page, so its policy has nothing against it.
NO_TRANSITIONS = """
    const sheet = new CSSStyleSheet();
    sheet.replaceSync("*, ::before, ::after { transition: none !important }");
    document.adoptedStyleSheets.push(sheet);
"""
PHONE, TABLET, DESK = ({"width": w, "height": h} for w, h in ((360, 780), (1100, 800), (1440, 900)))


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's chromium. Playwright keeps an event loop in this thread, which Django is told to put up with."""
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    expect.set_options(timeout=30_000)  # for machines that have much else to do
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            yield browser
            browser.close()
    finally:
        if before is None:
            del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


def lay_out_static(folder: Path) -> None:
    """The dashboard's own files, and those of others."""
    for finder in finders.get_finders():
        for path, storage in finder.list([]):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(storage.path(path), folder / path)
    for package in assets.SERVED:
        assets.lay_out(package)


@cache
def axe() -> str:
    """The script of axe-core."""
    return assets.extract(assets.AXE)["axe.js"].decode()


class Visitor:
    """One person at a browser, whose complaints are kept."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.context: BrowserContext = browser.new_context(base_url=url, **options)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda message: message.type in ("error", "warning") and self._hear(message.text))
        self.page.on("pageerror", lambda error: self._hear(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"a dialog: {dialog.message}"))

    def _hear(self, complaint: str) -> None:
        if not any(words in complaint for words in EXPECTED):
            self.complaints.append(complaint)

    def sign_in(self, username: str, password: str = "") -> Page:
        self.page.goto("/sign-in")
        return self.fill_in(username, self.page, password)

    @staticmethod
    def fill_in(username: str, page: Page, password: str = "") -> Page:
        """Sign in on a page that asks for it."""
        page.get_by_label("User name").fill(username)
        page.get_by_label("Password").fill(password or username * 2)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.wait_for_url(lambda url: "/sign-in" not in url)
        return page

    def serious_faults(self) -> list[str]:
        """What axe-core finds serious or critical on the page as it is."""
        return self._faults({"resultTypes": ["violations"]})

    def serious_faults_of_colour(self, scheme: str) -> list[str]:
        """The same in another colour scheme. Colours are all that a scheme changes, so only they are looked at."""
        self.page.evaluate(NO_TRANSITIONS)
        self.page.emulate_media(color_scheme=scheme)
        found = self._faults({"resultTypes": ["violations"], "runOnly": {"type": "rule", "values": COLOUR_RULES}})
        return [f"{scheme}: {fault}" for fault in found]

    def _faults(self, options: dict[str, Any]) -> list[str]:
        # Through the debugger, so that the page's policy stays as it is.
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(axe())
        found = self.page.evaluate("(options) => axe.run(options)", options)
        return [
            f"{violation['id']}: {violation['help']} ({node['target']}) {node.get('failureSummary', '')}"
            for violation in found["violations"]
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ]

    def misfits(self) -> list[str]:
        """What does not fit: a page that is wider than the window, and cards whose contents are cut off."""
        found: list[str] = self.page.evaluate(TOO_WIDE)
        return found
