"""A list of three hundred, in a real browser: one line a row, narrowed while one types, fitting any window."""

import re

import pytest
from playwright.sync_api import expect

from compute.models import Instance
from storage.models import Image
from tests import factories

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LIST = "/projects/demo/instances"
TALLEST = "Math.max(...[...document.querySelectorAll('[data-row]')].map((row) => row.getBoundingClientRect().height))"


@pytest.fixture
def three_hundred(cloud) -> None:
    cloud.project.quota.limits = dict.fromkeys(cloud.project.quota.limits)
    cloud.project.quota.save()
    small, large = cloud.flavor, factories.flavor("large", vcpus=8)
    Instance.objects.bulk_create(
        Instance(
            project=cloud.project, name=f"web-{number:03}", flavor=large if number % 3 else small, vcpus=1,
            memory_mib=512, disk_gib=1, image=cloud.image, created_by="mia" if number % 2 else "alice",
            wanted_power="stopped",
            labels={"tier": "front" if number % 4 else "back", "number": str(number)},
            failed_at=None if number % 10 else "2026-01-01T00:00Z",
            failed_reason="" if number % 10 else "No host has room: 3 hosts, too few vCPUs (1 free, 8 needed on one)",
        )
        for number in range(300)
    )  # fmt: skip


def test_three_hundred_are_sorted_narrowed_and_paged(visit, cloud, three_hundred):
    visitor = visit()
    page = visitor.sign_in("mia")
    page.goto(LIST)
    shown = page.locator("[data-row]")
    expect(page.get_by_text("1–50 of 300")).to_be_visible()
    page.get_by_role("link", name="Name", exact=True).click()
    expect(shown.first).to_contain_text("web-000")
    expect(page.locator("[aria-sort=ascending]")).to_have_text("Name")
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_text("51–100 of 300")).to_be_visible()
    expect(shown.first).to_contain_text("web-050")
    page.get_by_role("link", name="Previous").click()
    expect(shown.first).to_contain_text("web-000")
    page.get_by_role("link", name="Name", exact=True).click()
    expect(shown.first).to_contain_text("web-299")

    page.get_by_role("searchbox").press_sequentially("web-01")
    expect(shown).to_have_count(10)
    expect(page.locator(".chip", has_text="All")).to_have_text("All 10")
    expect(page.locator(".chip", has_text="Error")).to_have_text("Error 1")
    assert page.url.endswith("?q=web-01&sort=-name")
    page.get_by_label("Flavor").select_option("large")
    expect(shown).to_have_count(7)
    page.get_by_role("link", name="tier=front").first.click()
    expect(shown).to_have_count(6)
    expect(page).to_have_url(re.compile("label=tier%3Afront"))
    expect(page.get_by_label("Flavor")).to_have_value("large")
    page.get_by_label("Without the label tier=front").click()
    expect(shown).to_have_count(7)
    assert visitor.complaints == []


def test_what_is_cut_off_is_shown_by_the_mouse(visit, cloud, three_hundred):
    page = visit().sign_in("mia")
    page.goto(f"{LIST}?q=web-010")
    cell = page.locator("[data-row] .status-cell")
    assert "No host has room: 3 hosts, too few vCPUs" not in (cell.get_attribute("title") or "")
    cell.hover()
    expect(cell).to_have_attribute("title", re.compile("^error No host has room: 3 hosts, too few vCPUs"))


def test_a_list_follows_what_appears_changes_and_goes_under_its_filter(visit, cloud, three_hundred):
    page = visit().sign_in("mia")
    page.goto(f"{LIST}?q=new&sort=name")
    expect(page.locator("html")).to_have_attribute("data-stream", "on")
    cloud.launch(name="new-one")
    expect(page.locator("[data-row]")).to_have_count(1)
    cloud.settle()
    expect(page.locator("[data-row] .pill")).to_have_text("running")
    expect(page.locator(".chip", has_text="Running")).to_have_text("Running 1")


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark"), (1440, "light"), (2560, "light")])
def test_a_row_is_one_line_and_the_page_never_scrolls_sideways(visit, cloud, three_hundred, width, scheme):
    Image.objects.update(
        description="A description that is so long that it would need a second line or even a third one"
    )
    visitor = visit(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = visitor.sign_in("mia")
    for path in (LIST, "/projects/demo/images"):
        page.goto(path)
        assert visitor.misfits() == []
        if width > 640:
            assert page.evaluate(TALLEST) <= 40
    used = page.evaluate("document.querySelector('.table').getBoundingClientRect().right / innerWidth")
    assert used > 0.9
    assert visitor.serious_faults() == []
