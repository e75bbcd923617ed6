"""The dashboard in a real browser, with real web and streams processes, on the fake hypervisor."""

import re
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from playwright.sync_api import expect

from cloud.tenancy.models import Project
from compute import samples
from compute.models import ConsoleLog, Instance, KeyPair
from tests import factories

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

REAL_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
PAYLOAD = """"><img src=x onerror=alert(1)><script>alert(2)</script>"""


def test_three_clicks_launch_an_instance_which_is_seen_to_run_and_deleted(visit, cloud):
    page = visit().sign_in("mia")
    page.get_by_role("link", name="Launch the first instance").click()
    name = page.get_by_label("Name", exact=True).input_value()
    expect(page.locator("#preview")).to_contain_text("A host has room")
    page.get_by_role("button", name="Launch").click()
    expect(page.get_by_role("heading", name="How to log in")).to_be_visible()  # a project without keys: a password
    page.get_by_role("link", name=f"Go to {name}").click()
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
    expect(page.locator("#instance-head .pill")).to_have_text("launching")
    expect(page.get_by_role("progressbar")).to_be_visible()
    cloud.settle()
    expect(page.locator("#instance-head .pill")).to_have_text("running")
    expect(page.get_by_role("progressbar")).to_have_count(0)
    expect(page.locator("#toasts")).to_contain_text(f"Launching {name}: done")
    expect(page.locator("#bell-side")).to_have_attribute("aria-label", "Notifications")
    ConsoleLog.objects.create(instance=Instance.objects.get(), content=f"READY {name} 2.31\n".encode())
    expect(page.get_by_role("log")).to_contain_text(f"READY {name} 2.31")
    page.locator("#instance-head summary").click()
    page.get_by_role("link", name="Delete").click()
    expect(page.get_by_role("dialog")).to_contain_text("everything on its root disk")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.wait_for_url("**/projects/demo/instances")
    cloud.settle()
    expect(page.get_by_role("heading", name="No instances yet")).to_be_visible()
    assert cloud.running() == set()
    assert cloud.breaches() == []


def test_what_is_wrong_is_told_beside_its_field_while_it_is_typed(visit, cloud):
    page = visit().sign_in("mia")
    page.goto("/projects/demo/launch")
    beside_name, beside_data = page.locator("#faults-name"), page.locator("#faults-user_data")
    page.get_by_label("Name", exact=True).fill("Not A Name")
    expect(beside_name).to_contain_text("Use 1 to 63 lower-case letters")
    page.get_by_text("User data and labels").click()
    page.get_by_label("User data").fill("#cloud-config\nruncmd: [oops\n")
    expect(beside_data).to_contain_text("Line ")
    expect(page.get_by_label("User data")).to_be_focused()
    page.get_by_label("Name", exact=True).fill("web")
    expect(beside_name).to_be_hidden()
    page.get_by_label("User data").fill("#cloud-config\n{}\n")
    expect(beside_data).to_be_hidden()
    expect(page.locator("#preview")).to_contain_text("A host has room")


def test_the_preview_follows_what_is_chosen(visit, cloud):
    factories.flavor("giant", vcpus=1000)
    page = visit().sign_in("mia")
    page.goto("/projects/demo/launch")
    page.get_by_role("radio", name="giant").check()
    expect(page.locator("#preview")).to_contain_text("vCPUs: 1000 more asked")
    page.get_by_label("Name", exact=True).fill("Not A Name")
    expect(page.locator("#preview")).to_contain_text("lower-case letters")
    page.get_by_text("API request").click()
    expect(page.locator("#preview pre").first).to_contain_text('"name": "Not A Name"')


def test_a_call_of_the_api_reference_is_tried_and_changes_nothing(visit, cloud):
    page = visit().sign_in("mia")
    page.goto("/api/v1/docs?of=keypairs#create_projects_keypairs")
    call = page.locator("#create_projects_keypairs")
    call.get_by_text("Try it").click()
    call.get_by_role("button", name="Dry run").click()
    expect(call.get_by_role("status")).to_contain_text('"plan"')
    expect(call.get_by_role("status")).to_contain_text('"name": "desk"')
    assert not KeyPair.objects.exists()
    call.get_by_label("Body").fill('{"name": "Not A Name"}')
    call.get_by_role("button", name="Dry run").click()
    expect(call.get_by_role("status")).to_contain_text("lower-case letters")


def test_everything_goes_without_script(visit, cloud):
    page = visit(java_script_enabled=False).sign_in("mia")
    page.get_by_role("link", name="Launch the first instance").click()
    page.get_by_role("button", name="Try it out").click()
    expect(page.locator("#preview")).to_contain_text("A host has room")
    page.get_by_role("button", name="Launch", exact=True).click()
    page.get_by_role("link", name="Go to").click()
    cloud.settle()
    page.reload()
    expect(page.locator("#instance-head .pill")).to_have_text("running")
    page.get_by_role("link", name="Stop").click()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#instance-head .pill")).to_have_text("stopping")
    page.locator("#instance-head summary").click()
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    cloud.settle()
    page.reload()
    expect(page.get_by_role("heading", name="No instances yet")).to_be_visible()


def test_the_keyboard_is_enough(visit, cloud):
    for name in ("api", "web"):
        cloud.launch(name=name)
    cloud.settle()
    page = visit().sign_in("mia")
    page.keyboard.press("g")
    page.keyboard.press("i")
    page.wait_for_url("**/projects/demo/instances")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.get_by_role("link", name="api", exact=True)).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.type("web")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=web**")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.keyboard.press("Escape")
    page.locator("main").focus()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Filter the list")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    found = page.locator("#palette [role=option]")
    expect(found.first).to_contain_text("Launch an instance")
    page.keyboard.type("api")
    expect(found.filter(has_text=re.compile("^api"))).to_be_visible()
    while "api" not in (page.locator("#palette [aria-selected=true]").text_content() or "").partition("demo")[0]:
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="api", exact=True)).to_be_visible()


def test_what_is_selected_stays_so_and_is_stopped_together(visit, cloud):
    for name in ("a", "b", "c"):
        cloud.launch(name=name)
    cloud.settle()
    visitor = visit()
    page = visitor.sign_in("mia")
    page.goto("/projects/demo/instances?sort=name")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.locator("[data-selected]")).to_have_text("2 selected")
    cloud.launch(name="d")
    expect(page.get_by_role("link", name="d", exact=True)).to_be_visible()
    expect(page.locator("[data-select]:checked")).to_have_count(2)
    page.get_by_role("toolbar").get_by_role("button", name="Stop").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Stop 2 instances?")
    assert visitor.serious_faults() == []
    dialog.get_by_role("button", name="Stop").click()
    expect(page.locator("[data-results]")).to_contain_text("Stop: 2 begun")
    cloud.settle()
    expect(page.locator(".pill", has_text="stopped")).to_have_count(2)
    expect(page.locator("[data-results]")).to_contain_text("Stop: 2 done")

    project = Project.objects.get(name="demo")
    keys = [KeyPair(project=project, name=f"key{n}", public_key="ssh-ed25519 A") for n in range(55)]
    KeyPair.objects.bulk_create(keys)
    page.goto("/projects/demo/keypairs?q=key")
    page.keyboard.press("X")
    expect(page.locator("[data-selected]")).to_have_text("50 selected")
    page.get_by_label("Select all 55 that match the filter").check()
    expect(page.locator("[data-selected]")).to_have_text("55 selected")
    page.get_by_role("toolbar").get_by_role("button", name="Delete").click()
    expect(dialog).to_contain_text("Delete 55 key pairs?")
    dialog.get_by_role("button", name="Delete").click()
    expect(page.locator("[data-results]")).to_contain_text("Delete: 55 done")


def test_metrics_are_drawn_with_their_gaps(visit, cloud):
    instance = cloud.launch(name="web")
    cloud.settle()
    told = [{"id": str(instance.pk), "age": age, "cpu_percent": 40} for age in range(0, 600, 10) if not 200 < age < 300]
    disk = [
        {"id": str(instance.pk), "device": str(instance.pk), "age": age, "disk_reads_per_second": 5} for age in (5, 15)
    ]
    samples.take_in(host=Instance.objects.get().host, samples=told, devices=disk)
    Instance.objects.update(created_at=Now() - timedelta(hours=2))
    visitor = visit()
    page = visitor.sign_in("mia")
    page.goto(f"/projects/demo/instances/{instance.pk}")
    expect(page.get_by_role("img", name="CPU: 40 %")).to_be_visible()
    page.get_by_text("Each disk").click()
    expect(page.get_by_role("img", name="Disk web, operations: 5/s reads")).to_be_visible()
    page.get_by_role("link", name="1 day").click()
    page.wait_for_url("**span=1d")
    expect(page.get_by_role("img", name="CPU: 40 %")).to_be_visible()
    page.get_by_text("As a table").click()
    expect(page.get_by_role("row", name="CPU 40 %")).to_be_visible()
    drawn = page.get_by_role("img", name="CPU").locator(".u-over")
    drawn.hover()  # which waits while it is drawn anew: the page has become longer
    box = drawn.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.95, box["y"] + 20, steps=4)
    page.mouse.up()
    page.wait_for_url("**from=**")
    page.reload()
    expect(page.get_by_role("img", name="CPU: 40 %")).to_be_visible()
    page.get_by_role("button", name="Zoom out").click()
    page.wait_for_url("**span=1h")
    page.get_by_text("Range", exact=True).click()
    page.locator("#metrics-from").fill("2020-01-01T00:00")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("[data-refused]")).to_contain_text("is kept for 31 days")
    page.get_by_role("link", name="1 hour").click()
    assert visitor.serious_faults() == []


def test_moments_are_seen_from_now_and_dates_stay(visit, cloud):
    page = visit().sign_in("mia")
    page.evaluate("""document.querySelector("main").innerHTML =
        '<time datetime="2001-02-03T04:05:06Z">then</time><time datetime="2001-02-03">3</time>';
        document.dispatchEvent(new Event("visibilitychange"))""")
    expect(page.locator("main time").first).to_contain_text("y ago")
    expect(page.locator("main time").last).to_have_text("3")


def test_the_theme_is_chosen_and_stays(visit, cloud):
    page = visit(color_scheme="light").sign_in("mia")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate(background) != light
    page.goto("/projects/demo/instances")
    assert page.evaluate(background) != light
