"""Processes killed in the middle of every verb, with real VMs under the embedded emulator: each ends as asked.

Every verb meets one killed process, another one each round: PILEUS_FAULT_ROUNDS=6 has every verb meet every process.
"""

import os
import re
import signal
import threading
import time
import uuid

import httpx
import psutil
import pytest

from tests.clouds import wait_until
from tests.end_to_end.faults import INSTANCES, delete, is_verified, kill, launch, patiently, status, story, wait_for
from tests.end_to_end.machines import offer_riscv

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]
ROUNDS = int(os.environ.get("PILEUS_FAULT_ROUNDS", "1"))
WISH = {"image": "tiny-linux-riscv64", "hypervisor": "unicorn"}
KILLED = ("host", "control", "emulator", "valkey", "web", "postgres")
# In this order each begins where the one before it has ended.
VERBS = {
    "suspend": "suspended",
    "resume": "running",
    "clone": "running",
    "stop": "stopped",
    "start": "running",
    "pause": "paused",
    "delete": 404,
}


@pytest.fixture(scope="module")
def tower(machine, riscv_linux):
    """A cloud that offers the guest."""
    offer_riscv(machine, riscv_linux)
    return machine


def ask(machine, name: str, verb: str, body: dict) -> None:
    """Ask as a client does that tries again what is said to be worth it: a crashed machine is being started again."""

    def answer() -> httpx.Response | None:
        key = {"Idempotency-Key": uuid.uuid4().hex}
        with machine.api() as api:
            found: httpx.Response = patiently(lambda: api.post(f"{INSTANCES}/{name}/{verb}", json=body, headers=key))
        return None if found.status_code != 202 and found.json()["retryable"] else found

    last = wait_until(answer, 60, 0.2, what=f"{verb} is taken")
    assert last.status_code == 202, last.text


def emulator_of(machine_id: str) -> psutil.Process | None:
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if "/unicorn/" in words and machine_id in words:
            return process
    return None


def end(machine, machine_id: str, process: str) -> None:
    if process != "emulator":
        kill(machine, process)
    elif found := emulator_of(machine_id):
        found.send_signal(signal.SIGKILL)


def identity(machine, name: str) -> str:
    """The SSH host key of a guest that says that it is up under its own name."""

    def said() -> re.Match[str] | None:
        with machine.api() as api:
            log = patiently(lambda: api.get(f"{INSTANCES}/{name}/console-log", params={"lines": 1000}))
        text = "\n".join(log.json().get("lines", []))
        return re.search(rf"SSH host key (\S+)(?:(?!SSH host key).)*READY {name} ", text, re.DOTALL)

    found: re.Match[str] = wait_until(said, 60, what=f"{name} is up")
    return found[1]


def check_clones(machine, key: str, copies: list[str], *, may_fail: bool) -> None:
    """Each runs as somebody else; or has failed, when what it was to be cloned from was killed with its memory."""
    ends = {"running", "error"} if may_fail else {"running"}
    wait_until(lambda: {status(machine, copy) for copy in copies} <= ends, 120, what="clones have begun")
    running = [copy for copy in copies if status(machine, copy) == "running"]
    assert len({key, *(identity(machine, copy) for copy in running)}) == 1 + len(running)
    for copy in copies:
        delete(machine, copy)
    wait_until(lambda: {status(machine, copy) for copy in copies} == {404}, 60, what="clones are gone")


def ask_and_end(machine, name: str, machine_id: str, verb: str, process: str, *, after: float) -> None:
    """Ask for a verb, and kill a process that many seconds later: somewhere in the middle, or just before."""
    body = {"clone": {"name": f"copy-of-{name}", "count": 2}, "stop": {"grace_seconds": 5}}.get(verb, {})
    if verb == "delete":
        asked = threading.Thread(target=delete, args=(machine, name))
    else:
        asked = threading.Thread(target=ask, args=(machine, name, verb, body))
    asked.start()
    time.sleep(after)
    end(machine, machine_id, process)
    asked.join(90)


def has_settled(machine, name: str) -> str | int | None:
    """Its status, once nothing is done with it any more and its host is heard from."""
    with machine.api() as api:
        answer = patiently(lambda: api.get(f"{INSTANCES}/{name}"))
    if answer.status_code != 200:
        return int(answer.status_code)
    is_known = answer.json()["operation"] is None and answer.json()["status"] != "unreachable"
    return str(answer.json()["status"]) if is_known else None


@pytest.mark.parametrize("number", range(ROUNDS))
def test_every_verb_ends_as_asked_whoever_is_killed_meanwhile(tower, number):
    name = f"gold-{number}"
    machine_id = launch(tower, name, **WISH)
    end(tower, machine_id, KILLED[number % len(KILLED)])
    wait_for(tower, name, "running")
    key = identity(tower, name)

    def tell() -> str:
        return str(story(tower, name))

    for position, (verb, becomes) in enumerate(VERBS.items(), 1):
        process = KILLED[(number + position) % len(KILLED)]
        ask_and_end(tower, name, machine_id, verb, process, after=0.1 * (number % 4))
        what = f"{verb}, with {process} killed"
        reached = wait_until(lambda: has_settled(tower, name), 120, what=what, told=tell)
        if reached != becomes and process == "emulator":
            # What the guest had in its memory is lost: the verb may fail, and who asks again gets it.
            ask(tower, name, verb, {})
            reached = wait_until(lambda: has_settled(tower, name), 120, what=f"{verb}, once more", told=tell)
        assert reached == becomes, what
        if verb == "clone":
            check_clones(tower, key, [f"copy-of-{name}-{copy}" for copy in (1, 2)], may_fail=process == "emulator")

    wait_until(lambda: is_verified(tower), 60, 2, "verify holds")
    assert emulator_of(machine_id) is None
