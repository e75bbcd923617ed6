"""Consoles in a real browser: first over stand-in sockets, then at a real machine."""

import re
import time

import pytest
from playwright.sync_api import Page, expect
from websockets.sync.client import connect

from compute.models import Instance
from tests.clouds import wait_until
from tests.consoles import StandInSockets, node_service
from tests.end_to_end.browsers import DESK, PHONE, Visitor
from tests.end_to_end.faults import wait_for
from tests.end_to_end.machines import OneMachine

pytestmark = pytest.mark.browser

HOSTILE = (
    b"\x1b]0;<img src=x onerror=alert(1)>\x07<script>alert(2)</script>\r\n"
    b"\x1b]8;;javascript:alert(3)\x1b\\link\x1b]8;;\x1b\\ \x1b]52;c;cm0gLXJm\x07 \x1b[6n \x1b[31mred\x1b[0m\r\n"
)
PASTE = """(area, text) => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", text);
    area.dispatchEvent(new ClipboardEvent("paste", {clipboardData, bubbles: true}));
}"""
PATIENCE = 180_000  # ms: emulated, on a machine that may have much else to do


def screen_text(page: Page) -> str:
    return page.locator(".xterm-accessibility-tree").inner_text()


def expect_connected(page: Page) -> None:
    expect(page.locator("[data-console]")).to_have_attribute("data-connected", "yes", timeout=20_000)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "dark"), (DESK, "light")], ids=["phone", "desk"])
def test_a_serial_console_in_the_page(visit, cloud, servers, size, scheme):
    instance = cloud.launch(name="web")
    cloud.settle()
    machine = StandInSockets(cloud.node.home(str(instance.pk)))
    machine.say(HOSTILE)
    visitor = visit(viewport=size, color_scheme=scheme)
    with node_service(cloud.node.paths, servers.url, cloud.node.token):
        page = visitor.sign_in("mia")
        page.goto(f"/projects/demo/instances/{instance.pk}")
        page.get_by_role("link", name="Console", exact=True).click()
        expect_connected(page)
        expect(page.locator(".xterm-accessibility-tree")).to_contain_text("<script>alert(2)</script>")
        assert machine.typed == b""  # what was asked in the past is not answered
        page.keyboard.type("ls -l\n")
        wait_until(lambda: machine.typed == b"ls -l\r")
        page.get_by_role("button", name="Paste").click()
        page.get_by_label("Text to type in web").fill("echo 1\necho 2")
        page.get_by_role("button", name="Type it").click()
        wait_until(lambda: machine.typed.endswith(b"echo 1\recho 2"))
        page.locator(".xterm-helper-textarea").evaluate(PASTE, "x" * 70_000)  # more than one message may hold
        wait_until(lambda: machine.typed.endswith(b"x" * 70_000))
        page.get_by_role("button", name="Paste").click()
        page.get_by_label("Text to type in web").fill("y" * 70_000)
        page.get_by_role("button", name="Type it").click()
        wait_until(lambda: machine.typed.endswith(b"y" * 70_000))
        expect_connected(page)
        with page.expect_download() as picture:
            page.get_by_role("button", name="Screenshot").click()
        assert picture.value.suggested_filename == "web-serial.png"
        assert visitor.serious_faults() == []
        assert visitor.misfits() == []
        servers.stop_streams()
        expect(page.locator("[data-state]")).not_to_have_text("connected")
        servers.start_streams()
        expect_connected(page)
        machine.say(b"\r\nafter the cut\r\n")
        expect(page.locator(".xterm-accessibility-tree")).to_contain_text("after the cut")
        with page.expect_download() as log:
            page.get_by_role("link", name="Log", exact=True).click()
            page.get_by_role("link", name="Download").click()
        assert b"after the cut" in log.value.path().read_bytes()
    machine.close()
    visitor.complaints[:] = [words for words in visitor.complaints if "WebSocket connection" not in words]


@pytest.mark.django_db(transaction=True)
def test_whoever_launches_with_all_defaults_is_logged_in_at_the_console(visit, cloud, servers):
    visitor = visit()
    page = visitor.sign_in("mia")
    page.goto("/projects/demo/launch")
    page.get_by_label("Name", exact=True).fill("web")
    page.get_by_role("button", name="Launch", exact=True).click()
    expect(page.get_by_role("heading", name="How to log in")).to_be_visible()
    password = page.get_by_role("button", name="Copy the password").get_attribute("data-copy")
    cloud.settle()
    instance = Instance.objects.get()
    machine = StandInSockets(cloud.node.home(str(instance.pk)))
    user = instance.image.default_user.encode()
    with node_service(cloud.node.paths, servers.url, cloud.node.token):
        page.get_by_role("link", name="Open the console").click()
        expect_connected(page)
        expect(page.locator("[data-login]")).to_contain_text(password)
        assert machine.typed == b""  # it is not asked for yet
        machine.say(b"\r\nweb login: ")
        wait_until(lambda: machine.typed == user + b"\r", what="the user name")
        machine.say(user + b"\r\nPassword: ")
        wait_until(lambda: machine.typed == user + b"\r" + password.encode() + b"\r", what="the password")
        page.reload()
        expect_connected(page)
        expect(page.get_by_role("button", name="Log in", exact=True)).to_be_enabled()  # offered, but not done again
        assert visitor.serious_faults() == []
        with page.expect_popup() as opened:
            page.get_by_role("link", name="Help about this page").click()
        expect(opened.value.get_by_role("heading", level=1)).to_be_visible()
        assert password not in opened.value.evaluate("JSON.stringify(sessionStorage)")
        opened.value.close()
        page.get_by_role("button", name="Hide for good").click()
        expect(page.locator("[data-login]")).to_be_hidden()
    machine.close()
    visitor.complaints[:] = [words for words in visitor.complaints if "WebSocket connection" not in words]


@pytest.mark.django_db(transaction=True)
def test_a_screen_in_the_page_hears_keys_and_what_is_pasted(visit, cloud, servers):
    instance = cloud.launch(name="web")
    cloud.settle()
    machine = StandInSockets(cloud.node.home(str(instance.pk)), speaks_rfb=True)
    shift, enter, control, alt, delete = 0xFFE1, 0xFF0D, 0xFFE3, 0xFFE9, 0xFFFF
    visitor = visit()
    with node_service(cloud.node.paths, servers.url, cloud.node.token):
        page = visitor.sign_in("mia")
        page.goto(f"/projects/demo/instances/{instance.pk}/console?kind=vnc")
        expect_connected(page)
        page.keyboard.press("x")
        wait_until(lambda: machine.keys == [(ord("x"), True), (ord("x"), False)])
        machine.keys.clear()
        page.get_by_role("button", name="Paste").click()
        page.get_by_label("Text to type in web").fill("a$B\né")
        page.get_by_role("button", name="Type it").click()
        expected = [*pressed("a"), *pressed("$", shift), *pressed("B", shift), (enter, True), (enter, False)]
        wait_until(lambda: machine.keys == expected, what="the pasted keys")
        expect(page.locator("#toasts")).to_contain_text("1 of 5 characters")
        machine.keys.clear()
        page.get_by_role("button", name="Ctrl-Alt-Del").click()
        wait_until(lambda: [key for key, is_down in machine.keys if is_down] == [control, alt, delete])
        with page.expect_download() as picture:
            page.get_by_role("button", name="Screenshot").click()
        assert picture.value.path().read_bytes().startswith(b"\x89PNG")
        assert visitor.serious_faults() == []
    machine.close()


KEYBOARDS = {  # the scan codes that go down for "@/é"
    "English (US)": [42, 3, 53],  # Shift 2, /; no é
    "German": [184, 16, 42, 8, 13, 18],  # AltGr Q, Shift 7, ´ e
    "French": [184, 11, 42, 52, 3],  # AltGr 0, Shift :, é
}


@pytest.mark.django_db(transaction=True)
def test_what_is_pasted_into_a_screen_fits_the_guests_keyboard(visit, cloud, servers):
    instance = cloud.launch(name="web")
    cloud.settle()
    machine = StandInSockets(cloud.node.home(str(instance.pk)), speaks_rfb=True)
    machine.asks_for_places = True  # as QEMU does
    with node_service(cloud.node.paths, servers.url, cloud.node.token):
        page = visit().sign_in("mia")
        page.goto(f"/projects/demo/instances/{instance.pk}/console?kind=vnc")
        expect_connected(page)
        expect(page.locator("[data-screen] canvas")).to_be_visible()
        for keyboard, codes in KEYBOARDS.items():
            machine.places.clear()
            page.get_by_role("button", name="Paste").click()
            page.get_by_label("Text to type in web").fill("@/é")
            page.get_by_label("The guest’s keyboard").select_option(keyboard)
            page.get_by_role("button", name="Type it").click()
            wait_until(lambda: [code for code, is_down in machine.places if is_down] == codes, what=keyboard)  # noqa: B023
        page.reload()
        expect(page.get_by_label("The guest’s keyboard")).to_have_value("fr")
    machine.close()


def pressed(character: str, *modifiers: int) -> list[tuple[int, bool]]:
    key = ord(character)
    return [*((each, True) for each in modifiers), (key, True), (key, False), *((each, False) for each in modifiers)]


@pytest.mark.vm
@pytest.mark.timeout(900)
def test_a_tenant_signs_in_at_a_real_machines_serial_port_and_sees_its_screen(machine: OneMachine, browser):
    login, user_data = machine.credentials["demo"], "#cloud-config\npassword: mushroom\n"
    with machine.api() as api:
        body = {"name": "watched", "flavor": "tiny", "image": "tiny-linux", "user_data": user_data}
        body["flavor"] = machine.first()["flavor"]["name"]
        api.post("/projects/demo/instances", json=body).raise_for_status()
        here = "/projects/demo/instances/watched"
        wait_for(machine, "watched", "running")
        ident = api.get(here).json()["id"]
        visitor = Visitor(browser, machine.credentials["url"], viewport=DESK)
        page = visitor.sign_in(login["username"], login["password"])
        page.goto(f"/projects/demo/instances/{ident}/console")
        expect_connected(page)
        text = page.locator(".xterm-accessibility-tree")
        expect(text).to_contain_text("watched login:", timeout=PATIENCE)
        page.keyboard.type("root\n")
        expect(text).to_contain_text("Password:", timeout=PATIENCE)
        page.keyboard.type("mushroom\n")
        expect(text).to_contain_text("#", timeout=PATIENCE)
        page.keyboard.type("echo $((6*7))-mushrooms\n")
        expect(text).to_contain_text("42-mushrooms", timeout=PATIENCE)
        expect(page.get_by_role("link", name="Screen", exact=True)).to_have_attribute("aria-disabled", "true")
        page.goto(f"/projects/demo/instances/{ident}/console?kind=vnc")  # its firmware draws, if nobody else
        expect_connected(page)
        assert page.locator("[data-screen] canvas").bounding_box()["width"] > 300
        assert visitor.complaints == []
        assert greeting(api, here, machine).startswith(b"RFB 003.008\n")
        api.delete(f"{here}?purge=true").raise_for_status()
        expect(page.locator("[data-console]")).to_have_attribute("data-connected", "no", timeout=PATIENCE)
        wait_until(lambda: api.get(here).status_code == 404, 60)


def greeting(api, here: str, machine: OneMachine) -> bytes:
    """What QEMU's screen says first, to a program with a token."""
    url = api.post(f"{here}/console", json={"kind": "vnc"}).json()["url"]
    assert re.match(r"ws://127\.0\.0\.1:\d+/api/v1/consoles/", url)
    headers = {"Authorization": api.headers["Authorization"]}
    with connect(url, additional_headers=headers, proxy=None, compression=None) as websocket:
        said, until = b"", time.monotonic() + 10
        while len(said) < 12 and time.monotonic() < until:
            said += websocket.recv(timeout=10)
    return said
