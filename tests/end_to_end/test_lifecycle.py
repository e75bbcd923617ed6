"""The life of an instance by the API alone, with a real guest: what its user asked for is what its console says."""

import re
import uuid

import pytest

from tests.clouds import wait_until
from tests.end_to_end.serial import Serial

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

INSTANCES = "/projects/demo/instances"
USER_DATA = """#cloud-config
hostname: renamed
write_files:
  - path: /etc/greeting
    content: |
      hello from user data
runcmd:
  - cat /etc/greeting > /dev/console
"""


@pytest.fixture
def api(machine):
    with machine.api() as client:
        yield client


def console(api, name):
    return api.get(f"{INSTANCES}/{name}/console-log", params={"lines": 500}).json()["lines"]


def boots(api, name):
    """How often the guest's own userland has said that it is up."""
    return sum(bool(re.match(r"READY \S+ \d", text)) for text in console(api, name))


def finish(api, answer):
    """Wait, by long polls, for the operation that a call has begun; returns its kind."""
    assert answer.status_code == 202, answer.text
    path = f"/projects/demo/operations/{answer.json()['operation']['id']}"

    def ended():
        operation = api.get(path, params={"wait": 30}).json()
        return operation if operation["finished_at"] else None

    operation = wait_until(ended, 120, 0.1, "the operation ends")
    assert operation["outcome"] == "done", operation["reason"]
    return operation["kind"]


def answers(api, name):
    """Whether its host finds the guest at its address, with SSH open."""
    found = api.post(f"{INSTANCES}/{name}/diagnose-connection", json={"port": 22}).json()
    return {hop["name"]: hop["verdict"] for hop in found["hops"]}.get("answer") == "ok"


def test_from_launch_to_delete(machine, api):
    key = api.post("/projects/demo/keypairs", json={"name": "laptop"}).json()
    assert key["secret"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    body = {"name": "whole", "flavor": "tiny", "image": "tiny-linux", "keypairs": ["laptop"], "user_data": USER_DATA}
    launched = api.post(INSTANCES, json=body, headers={"Idempotency-Key": uuid.uuid4().hex})
    assert finish(api, launched) == "compute.launch"
    wait_until(lambda: boots(api, "whole") == 1, 240, what="the guest is up")
    assert any("hello from user data" in text for text in console(api, "whole"))
    assert any(text.startswith("READY renamed") for text in console(api, "whole"))

    finish(api, api.post(f"{INSTANCES}/whole/stop", json={}))
    stopped = api.get(f"{INSTANCES}/whole").json()
    assert (stopped["status"], stopped["seen_power"], stopped["wanted_power"]) == ("stopped", "stopped", "stopped")

    finish(api, api.post(f"{INSTANCES}/whole/resize", json={"flavor": "small"}))
    finish(api, api.post(f"{INSTANCES}/whole/start", json={}))
    wait_until(lambda: boots(api, "whole") == 2, 240, what="the guest is up again")
    greetings = [text for text in console(api, "whole") if "hello from user data" in text]
    assert len(greetings) == 1, "user data is for the first boot, and the disk is still the same"

    finish(api, api.post(f"{INSTANCES}/whole/reboot", json={}))
    wait_until(lambda: boots(api, "whole") == 3, 120, what="the guest is up after a soft reboot")
    finish(api, api.post(f"{INSTANCES}/whole/reboot", json={"hard": True}))
    wait_until(lambda: boots(api, "whole") == 4, 120, what="the guest is up after a hard reboot")

    for verb, status in (("pause", "paused"), ("suspend", "suspended"), ("resume", "running")):
        finish(api, api.post(f"{INSTANCES}/whole/{verb}", json={}))
        assert api.get(f"{INSTANCES}/whole").json()["status"] == status
    assert boots(api, "whole") == 4, "it went on, and did not boot"
    if api.get(f"{INSTANCES}/whole").json()["addresses"]:  # elsewhere the host carries no networks, and `up` says so
        wait_until(lambda: answers(api, "whole"), 60, 0.5, what="it is reached over its network again")

    reset = api.post(f"{INSTANCES}/whole/reset-password", json={"reboot": True})
    finish(api, reset)
    wait_until(lambda: boots(api, "whole") == 5, 120, what="the guest is up, and was told")
    with Serial(api, f"{INSTANCES}/whole") as serial:
        serial.log_in(reset.json()["generated_password"])
        serial.type("echo SEES $(cat /sys/block/vda/size) $(grep MemTotal /proc/meminfo)")
        sectors, memory_kib = map(int, serial.expect(r"SEES (\d+) MemTotal: (\d+)").groups())
        assert (sectors, memory_kib > 400 * 1024) == (5 << 21, True), "it has the disk and the memory of `small`"

    boots_before = boots(api, "whole")
    finish(api, api.delete(f"{INSTANCES}/whole"))
    assert api.get(f"{INSTANCES}/whole").status_code == 404
    finish(api, api.post(f"{INSTANCES}/whole/restore", json={}))
    assert api.get(f"{INSTANCES}/whole").json()["status"] == "running"
    wait_until(lambda: boots(api, "whole") == boots_before + 1, 120, what="it is back from the trash, with its disk")
    finish_deleted(api, "whole")
    assert api.delete("/projects/demo/keypairs/laptop").status_code == 204
    wait_until(lambda: machine.pileus("verify", check=False).returncode == 0, 60, 2, "verify holds")


def test_a_guest_begins_with_its_volumes(machine, api):
    """It boots from one that stays, and has another one, which goes with it."""
    says_its_disks = "#!/bin/sh\necho VOLUMES $(cat /sys/block/vda/size /sys/block/vdb/size) >/dev/console\n"
    body = {
        "name": "based", "flavor": "tiny", "image": "tiny-linux", "user_data": says_its_disks,
        "boot_from": {"size_gib": 3, "name": "stays", "delete_with_instance": False},
        "volumes": [{"size_gib": 2, "name": "goes"}],
    }  # fmt: skip
    finish(api, api.post(INSTANCES, json=body))
    sectors = " ".join(str(gib * 1024 * 1024 * 2) for gib in (3, 2))
    wait_until(lambda: f"VOLUMES {sectors}" in console(api, "based"), 120, what="the guest sees both")
    finish_deleted(api, "based")
    volumes = "/projects/demo/volumes"
    wait_until(lambda: api.get(f"{volumes}/goes").status_code == 404, 60, what="what was made for it is gone")
    assert api.get(f"{volumes}/stays").json()["status"] == "available"
    api.delete(f"{volumes}/stays?purge=true")
    wait_until(lambda: api.get(f"{volumes}/stays").status_code == 404, 60, what="the volume is gone")


def test_a_guest_that_switches_itself_off_stays_off(api):
    user_data = "#!/bin/sh\n(sleep 2; poweroff) &\n"
    finish(
        api,
        api.post(INSTANCES, json={"name": "brief", "flavor": "tiny", "image": "tiny-linux", "user_data": user_data}),
    )
    wait_until(lambda: api.get(f"{INSTANCES}/brief").json()["status"] == "stopped", 120, what="it is stopped")
    shown = api.get(f"{INSTANCES}/brief").json()
    assert (shown["wanted_power"], shown["status_reason"]) == ("stopped", "the guest switched itself off")
    finish_deleted(api, "brief")


def test_a_cancelled_launch_leaves_only_its_row(machine, api):
    answer = api.post(INSTANCES, json={"name": "unwanted", "flavor": "tiny", "image": "tiny-linux"})
    operation = answer.json()["operation"]["id"]
    cancelled = api.post(f"/projects/demo/operations/{operation}/cancel", json={})
    assert cancelled.status_code in (202, 409), cancelled.text  # 409: it was quicker, and has finished
    wait_until(lambda: api.get(f"{INSTANCES}/unwanted").json()["operation"] is None, 60)
    outcome = api.get(f"/projects/demo/operations/{operation}").json()["outcome"]
    status = api.get(f"{INSTANCES}/unwanted").json()["status"]
    assert (outcome, status) in (("cancelled", "error"), ("done", "running"))
    finish_deleted(api, "unwanted")


def finish_deleted(api, name):
    api.delete(f"{INSTANCES}/{name}?purge=true")
    wait_until(lambda: api.get(f"{INSTANCES}/{name}").status_code == 404, 60, what=f"{name} is gone")
