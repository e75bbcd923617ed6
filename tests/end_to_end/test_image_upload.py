"""A file goes from a browser into an image, in pieces, over a line that breaks."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from storage.models import Image, Upload

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
MIB = 1 << 20


def test_a_file_is_sent_although_the_line_breaks(visit, cloud, tmp_path):
    file = tmp_path / "guest.raw"
    file.write_bytes(os.urandom(40 * MIB))  # two pieces
    cut: list[str] = []

    def cut_once(route: Route) -> None:
        if route.request.method == "PATCH" and not cut:
            cut.append(route.request.url)
            route.abort("connectionreset")
        else:
            route.continue_()

    visitor = visit()
    page = visitor.sign_in("mia")
    page.goto("/projects/demo/images")
    page.get_by_role("link", name="Import an image").click()
    page.get_by_label("Name", exact=True).fill("mine")
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_role("heading", name="It waits for its file")).to_be_visible()
    page.route("**/upload/file", cut_once)
    sent = Path(os.environ["PILEUS_IMAGE_STORE"], "uploads", str(Upload.objects.get().pk))
    page.get_by_label("File").set_input_files(file)
    expect(page.get_by_role("heading", name="Importing mine")).to_be_visible(timeout=30_000)
    assert cut
    visitor.complaints = [one for one in visitor.complaints if "ERR_CONNECTION_RESET" not in one]  # wished for
    assert sent.read_bytes() == file.read_bytes()
    assert Image.objects.get(name="mine").status == "importing"


def test_a_file_chosen_in_the_form_is_sent_at_once(visit, cloud, tmp_path):
    file = tmp_path / "Debian 13.qcow2"
    file.write_bytes(os.urandom(MIB))
    visitor = visit()
    page = visitor.sign_in("mia")
    page.goto("/projects/demo/images/import")
    expect(page.get_by_label("URL")).to_be_hidden()
    page.get_by_label("File").set_input_files(file)
    expect(page.get_by_label("Name", exact=True)).to_have_value("debian-13")
    page.get_by_label("SHA-256").fill("no checksum")
    page.get_by_role("button", name="Import", exact=True).click()
    fault = page.locator(".field", has_text="SHA-256").locator(".fault")
    expect(fault).to_contain_text("64 lower-case")  # the file is still chosen
    page.get_by_label("SHA-256").fill("")
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_role("heading", name="Importing debian-13")).to_be_visible()
    upload = Upload.objects.get()
    assert page.url.endswith(f"/images/{upload.image_id}")
    assert Path(os.environ["PILEUS_IMAGE_STORE"], "uploads", str(upload.pk)).read_bytes() == file.read_bytes()
