"""`./pileus` on a copy of the tree with an empty state folder: up, again, restart, killed, down, up."""

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import time

import httpx
import psutil
import pytest

from tests.clouds import wait_until
from tests.end_to_end.faults import story
from tests.end_to_end.machines import POOL, offer_riscv

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]


def test_up_ends_with_a_guest_that_says_that_it_runs(machine):
    assert len(machine.first_boots) == 1
    assert machine.first()["status"] == "running"
    assert machine.emulators()


def test_up_prints_url_logins_vm_and_seconds(machine):
    out = machine.first_up.stdout
    credentials = machine.credentials
    assert f"http://127.0.0.1:{machine.port}" in out
    for who in ("admin", "demo"):
        assert f"{credentials[who]['username']} / {credentials[who]['password']}" in out
    assert "first" in out
    assert re.search(r"The cloud is up: \d+\.\d s", out)
    assert "\033" not in out


def test_the_ssh_command_that_up_prints_works(machine):
    """Where the host carries networks; elsewhere `up` says why there is none."""
    line = re.search(r"(ssh -i .+|no SSH.*)", machine.first_up.stdout)[0]
    if line.startswith("no SSH"):
        assert "networks" in line
        return
    done = ssh(line.split())
    assert (done.returncode, done.stdout.strip()) == (0, "first"), done.stderr


def ssh(command: list[str], do: str = "hostname") -> subprocess.CompletedProcess[str]:
    """What the guest says to that: its name, if nothing else is asked."""
    options = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=2".split()
    options += "-o ServerAliveInterval=2".split()  # one that is cut off while its address goes gets no answer any more
    return subprocess.run([*command, *options, do], check=False, capture_output=True, text=True, timeout=60)


def test_the_doctor_tells_what_listens_in_the_guest_from_what_does_not(machine):
    """Its fixes lead to a port where nothing listens; then something does, and is left alone."""
    line = re.search(r"ssh -i .+", machine.first_up.stdout)
    if line is None:
        return  # no networks here, and `up` has said so
    with machine.api() as api, contextlib.ExitStack() as cleaning:

        def look(port: int) -> dict:
            answer = api.post("/projects/demo/instances/first/diagnose-connection", json={"port": port})
            assert answer.status_code == 200, answer.text
            return answer.json()

        wait_until(lambda: look(22)["verdict"] == "open", what="SSH", told=lambda: f"{look(22)}")
        for hop in ("way_in", "ingress"):
            found = look(8022)
            assert found["blocked_at"] == hop, found
            path = found["fix"]["path"].removeprefix("/api/v1")
            made = api.request(found["fix"]["method"], path, json=found["fix"]["body"])
            assert made.status_code == 201, made.text
            cleaning.callback(api.delete, f"{path}/{made.json()['id']}")
        silence = "nothing listens on port 8022"
        wait_until(lambda: silence in look(8022)["says"], what=silence, told=lambda: f"{look(8022)}")

        def within(do: str) -> str:
            def said() -> str:
                return ssh(line[0].split(), do).stdout.strip()

            return wait_until(said, what=do)

        program = within("nc -l -p 8022 >/dev/null 2>&1 </dev/null & echo $!")
        wait_until(lambda: look(8022)["verdict"] == "open", what="a program", told=lambda: f"{look(8022)}")
        # It serves one connection, and still waits for it. SSH has an nc of its own.
        assert within(f"kill {program} && echo ended || echo gone") == "ended"


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's host leads in single ports only")
def test_the_first_vm_is_reached_by_a_floating_ip_and_its_traffic_is_measured(machine):
    """Its addresses are those that the machine itself leads in, as it was told when it was first up."""
    line = re.search(r"ssh -i (\S+) .+?(\w+)@", machine.first_up.stdout)
    if line is None:
        return  # no networks here, and `up` has said so
    with machine.api("admin") as api:
        made = api.post("/address-pools", json={"name": "outside", "cidr": POOL})
        assert made.status_code == 201, made.text
    with machine.api() as api:
        floating = api.post("/projects/demo/floating-ips", json={"name": "door", "instance": "first"}).json()

        def status() -> dict:
            return api.get("/projects/demo/floating-ips/door").json()

        wait_until(lambda: status()["status"] == "ready", what=f"a way in: {status()}")

        def visit() -> None:
            done = ssh(["ssh", "-i", line[1], f"{line[2]}@{floating['address']}"])
            assert (done.returncode, done.stdout.strip()) == (0, "first"), done.stderr

        def measured() -> list[float | None]:
            visit()  # traffic is what goes between two looks, and the first look may be still to come
            metrics = api.get("/projects/demo/instances/first/metrics").json()["metrics"]
            return metrics["network_received_bytes_per_second"]["values"][-9:]

        visit()
        wait_until(lambda: any(measured()), 40, every=1, what="traffic in the metrics", told=lambda: f"{measured()}")
        assert api.post("/projects/demo/floating-ips/door/disassociate").status_code == 200
        wait_until(lambda: ssh(["ssh", "-i", line[1], f"{line[2]}@{floating['address']}"]).returncode == 255)


def test_credentials_are_private_and_of_the_promised_shape(machine):
    assert stat.S_IMODE(machine.home.credentials.stat().st_mode) == 0o600
    credentials = machine.credentials
    assert credentials.keys() == {"url", "admin", "demo"}
    for who in ("admin", "demo"):
        assert credentials[who].keys() == {"username", "password", "token"}
        with machine.api(who) as api:
            assert api.get("/me").json()["username"] == credentials[who]["username"]


def test_all_that_it_needs_is_said_to_be_at_work(machine):
    def status() -> dict:
        return httpx.get(f"http://127.0.0.1:{machine.port}/readyz", trust_env=False).json()

    wait_until(lambda: status()["status"] == "ready", what="readyz")
    assert all(check["ok"] for check in status()["checks"].values())


def test_no_secret_is_in_a_command_line_or_in_a_log(machine):
    memory = json.loads(machine.home.memory.read_text())
    secrets = [memory["secret_key"], memory["redis_password"]]
    secrets += [machine.credentials[who][kind] for who in ("admin", "demo") for kind in ("password", "token")]
    seen = "\n".join([*machine.processes(), *(log.read_text(errors="replace") for log in machine.home.log.iterdir())])
    assert not [secret for secret in secrets if secret in seen]


@pytest.mark.skipif(os.geteuid() != 0, reason="as an ordinary user everything runs as that user")
def test_only_the_processes_of_the_host_keep_root(machine):
    users = {}
    for line in machine.pileus("status").stdout.splitlines():
        words = line.split()
        if words[1:2] == ["running"]:
            users[words[0]] = psutil.Process(int(words[2])).username()
    of_the_host = {users.pop(name) for name in ("host", "node", "network", "supervisor")}
    assert of_the_host == {"root"}
    assert set(users.values()) == {"pileus"}
    assert users.keys() >= {"postgres", "valkey", "web", "streams", "control", "beat"}


def test_up_again_is_quick_and_keeps_everything(machine):
    before, boots, credentials = machine.first_emulator(), machine.boots(), machine.credentials
    began = time.monotonic()
    done = machine.pileus("up")
    assert time.monotonic() - began <= max(10, machine.first_up_seconds / 4)  # on a busy machine both take longer
    assert machine.credentials == credentials
    assert machine.first_emulator() == before
    assert machine.boots() == boots
    assert credentials["admin"]["password"] not in done.stdout


def test_restart_leaves_machines_alone(machine):
    before, boots = machine.first_emulator(), machine.boots()
    machine.pileus("restart")
    assert machine.first_emulator() == before
    wait_until(lambda: machine.first()["status"] == "running", 60)
    assert machine.boots() == boots


def test_verify_finds_nothing(machine):
    machine.pileus("verify")


def test_a_guest_for_the_embedded_emulator_is_offered_beside_qemus(machine, riscv_linux):
    refused = machine.pileus("image", "z80", check=False)
    assert (refused.returncode, "x86_64, aarch64, riscv64" in refused.stderr) == (1, True)
    offer_riscv(machine, riscv_linux)
    with machine.api() as api:
        wish = {"name": "other", "flavor": "tiny", "image": "tiny-linux-riscv64", "hypervisor": "unicorn"}
        assert api.post("/projects/demo/instances", json=wish).status_code == 202
        wait_until(lambda: api.get("/projects/demo/instances/other").json()["status"] == "running", 60)
        assert api.delete("/projects/demo/instances/other?purge=true").status_code == 202
        wait_until(lambda: api.get("/projects/demo/instances/other").status_code == 404, 60)


def test_a_killed_supervisor_takes_the_control_plane_along_and_no_machine(machine):
    before = machine.first_emulator()
    os.kill(json.loads(machine.home.pids.read_text())["supervisor"][0], signal.SIGKILL)
    wait_until(lambda: machine.pileus("status", check=False).returncode != 0, 60)
    assert machine.first_emulator() == before
    machine.pileus("up")
    assert machine.first_emulator() == before
    wait_until(lambda: machine.first()["status"] == "running", 60)


def test_down_powers_off_cleanly_and_leaves_nothing_and_up_brings_it_back(machine):
    boots = len(machine.boots())
    machine.pileus("down")
    assert machine.processes() == []
    assert not machine.emulators()
    assert machine.pileus("status", check=False).returncode == 1
    machine.pileus("up")
    wait_until(lambda: len(machine.boots()) == boots + 1, 120, told=lambda: story(machine, "first"))
    wait_until(lambda: machine.first()["status"] == "running", 60)
    machine.pileus("verify")


def test_a_taken_port_is_reported_with_who_has_it(machine):
    machine.env["PILEUS_PORT"] = str(json.loads(machine.home.memory.read_text())["redis_port"])
    try:
        done = machine.pileus("up", check=False)
    finally:
        machine.env["PILEUS_PORT"] = str(machine.port)
    assert done.returncode == 1
    assert "is taken by valkey-server (pid" in done.stderr
