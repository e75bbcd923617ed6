"""The channel to a guest agent through a real QEMU, to a guest that freezes its file system in earnest."""

import contextlib
import json
import subprocess
import uuid
from dataclasses import replace

import pytest

from agent.errors import NoAnswer
from compute.agent import sockets
from compute.agent.hypervisors.qemu import Qemu, control
from tests.clouds import wait_until
from tests.compute.agent.test_plugging import Running, node  # noqa: F401
from tests.compute.agent.test_qemu import boot, host, obey_really, wait_for_line  # noqa: F401
from tests.compute.agent.test_real_captures import capture, images, nothing_is_left  # noqa: F401
from tests.compute.agent.virtual import GREETING
from tests.guest_agents import AGENT_OF_TINY_LINUX, look
from tests.images.conftest import tiny_linux  # noqa: F401

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]


@pytest.fixture
def guest(node, control_plane, tiny_linux, images):  # noqa: F811
    image = json.loads((tiny_linux / "image.json").read_text())
    control_plane.files |= {file["sha256"]: tiny_linux / file["file"] for file in image["files"]}
    guest = Running(node, control_plane, image)
    guest.spec["seed"]["user_data"] = AGENT_OF_TINY_LINUX
    report = guest.order()
    assert (report["seen"], report["facts"].get("problem")) == ("running", None)
    return guest


def until_known(guest):
    """Wait for the agent to be known, as the node's thread does."""

    def known():
        with contextlib.suppress(NoAnswer):  # while it is busy: it is asked again
            look(guest.node, guest.spec["id"])
        return guest.node.entry(guest.spec["id"]).facts.get("guest_agent")

    return wait_until(known, 120, 0.2, "the agent is known", lambda: guest.home.console_log.read_text()[-2000:])


def features(disk, folder):
    """Of the file system on a disk: ext4 that was written to needs its journal replayed, unless it was frozen."""
    raw = folder / "raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(disk), str(raw)], check=True)
    said = subprocess.run(["/usr/sbin/dumpe2fs", "-h", str(raw)], check=True, capture_output=True, text=True).stdout
    return next(line for line in said.splitlines() if line.startswith("Filesystem features:")).split()


def test_an_agent_in_a_real_guest_is_found_freezes_and_sets_a_password(guest, capture, control_plane, tmp_path):  # noqa: F811
    assert until_known(guest) == {"version": "0.tiny", "can": ["freeze", "password"]}
    guest.says("WROTE 2")
    facts, file = capture(guest)
    assert file, facts
    assert facts["found"]["consistency"] == "filesystem"
    guest.says("AGENT thawed")
    nothing_is_left(guest)
    assert "needs_recovery" not in features(control_plane.files[file["sha256"]], tmp_path)
    count = int(guest.says(r"WROTE (\d+)")[1])
    guest.says(f"WROTE (?!{count}\\b)")  # it goes on

    guest.spec["seed"]["password_reset"] = {"id": str(uuid.uuid4()), "user": "root", "hash": "$6$salt$hash"}
    assert guest.order()["facts"]["password_set"] == guest.spec["seed"]["password_reset"]["id"]
    guest.says("AGENT set a password")

    assert guest.order("ensure_suspended")["seen"] == "suspended"
    assert "guest_agent" not in guest.node.entry(guest.spec["id"]).facts
    assert guest.order()["seen"] == "running"
    assert until_known(guest)["version"] == "0.tiny"


def test_what_an_older_release_suspended_goes_on_without_a_channel(host, obey_really, kernel_spec, monkeypatch):  # noqa: F811
    home = host.machine(kernel_spec["id"]).home
    with monkeypatch.context() as older:
        made = Qemu._made
        older.setattr(Qemu, "_made", lambda *what: replace(made(*what), has_channel=False))
        boot(host, obey_really, kernel_spec)
        wait_for_line(host, kernel_spec, GREETING)
        assert obey_really("ensure_suspended", kernel_spec, 2)["seen"] == "suspended"
    assert not control.had_channel(home.saved)
    boot(host, obey_really, kernel_spec, 3)
    assert not sockets.exists(home.agent_socket)
    with control.connect(home) as connection:
        assert not connection.guest_listens()
    assert obey_really("ensure_suspended", kernel_spec, 4)["seen"] == "suspended"
    boot(host, obey_really, kernel_spec, 5)
    assert obey_really("ensure_stopped", {**kernel_spec, "stop": {"force": True}}, 6)["seen"] == "stopped"
    boot(host, obey_really, kernel_spec, 7)
    assert sockets.exists(home.agent_socket)
    assert obey_really("ensure_suspended", kernel_spec, 8)["seen"] == "suspended"
    assert control.had_channel(home.saved)
    boot(host, obey_really, kernel_spec, 9)
    assert sockets.exists(home.agent_socket)
