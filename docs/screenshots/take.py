"""Takes the pictures of the dashboard that the documents show: six pages × two themes × two widths of a running cloud.

    python docs/screenshots/take.py [credentials.json]

Run it where playwright is installed (`./pileus test` does that) and Debian's chromium. It looks, and changes nothing.
"""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

FOLDER = Path(__file__).resolve().parent
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SIZES = {"wide": {"width": 1440, "height": 900}, "phone": {"width": 360, "height": 780}}
THEMES = ("light", "dark")


def credentials(argument: str) -> dict:
    home = os.environ.get("PILEUS_HOME", "/var/lib/pileus")
    return json.loads(Path(argument or f"{home}/credentials.json").read_text())


def sign_in(page: Page, login: dict) -> None:
    page.goto("/sign-in")
    page.get_by_label("User name").fill(login["username"])
    page.get_by_label("Password").fill(login["password"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/sign-in" not in url)


def pages(page: Page) -> Iterator[tuple[str, str]]:
    """The main pages: name, path."""
    yield "overview", "/projects/demo"
    yield "instances", "/projects/demo/instances"
    yield "launch", "/projects/demo/launch"
    page.goto("/projects/demo/instances")
    first = page.locator("tbody tr", has=page.locator(".pill.good")).locator("th a").last
    if first.count():
        yield "instance", first.get_attribute("href") or ""
        yield "console", f"{first.get_attribute('href')}/console"
    yield "hosts", "/cloud/hosts"


def take(browser: Browser, told: dict, size: str, theme: str) -> None:
    context = browser.new_context(
        base_url=told["url"], viewport=SIZES[size], color_scheme=theme, device_scale_factor=1, reduced_motion="reduce"
    )
    page = context.new_page()
    sign_in(page, told["admin"])
    for name, path in list(pages(page)):
        page.goto(path)
        page.wait_for_load_state("load")
        if name == "console":
            page.wait_for_selector("[data-connected=yes]")
        page.screenshot(path=FOLDER / f"{name}-{size}-{theme}.png")
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            print(f"{name}-{size}-{theme}: wider than its window")
    context.close()


def main(arguments: list[str]) -> None:
    told = credentials(arguments[0] if arguments else "")
    assert re.match(r"https?://", told["url"])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        )
        for size in SIZES:
            for theme in THEMES:
                take(browser, told, size, theme)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
