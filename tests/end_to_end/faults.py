"""Killing processes of a cloud, and asking it for things meanwhile as a patient client does."""

import contextlib
import json
import os
import signal
import uuid

import httpx
import psutil

from tests.clouds import wait_until

BODY = {"flavor": "tiny", "image": "tiny-linux"}
INSTANCES = "/projects/demo/instances"


def pid_of(machine, name):
    """None while it is down."""
    return json.loads(machine.home.pids.read_text()).get(name, [None])[0]


def kill(machine, name):
    """Kill -9 one process of the cloud, with its children; the supervisor starts it again."""
    process = psutil.Process(pid_of(machine, name))
    for one in [process, *(process.children(recursive=True) if name in ("web", "control", "postgres") else [])]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGKILL)
    wait_until(lambda: pid_of(machine, name) not in (None, process.pid), 60, what=f"{name} is started again")


def patiently(request):
    """Send a request until the control plane answers it with something other than `unavailable`, as a client would."""

    def once():
        try:
            answer = request()
        except httpx.TransportError:
            return None
        return None if answer.status_code == 503 else answer

    return wait_until(once, 60, 0.2, "the API answers")


def launch(machine, name, **wishes):
    """Launch under an idempotency key, so that trying again after a broken connection makes no second one."""
    key = uuid.uuid4().hex
    with machine.api() as api:
        answer = patiently(
            lambda: api.post(INSTANCES, json={"name": name, **BODY, **wishes}, headers={"Idempotency-Key": key})
        )
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def status(machine, name):
    with machine.api() as api:
        answer = patiently(lambda: api.get(f"{INSTANCES}/{name}"))
    return answer.json()["status"] if answer.status_code == 200 else answer.status_code


def wait_for(machine, name, *wanted, seconds=120):
    """Wait for one of these statuses (404: it is gone); fails with what the cloud says of the instance instead."""
    what = f"{name} is {' or '.join(map(str, wanted))}"
    wait_until(lambda: status(machine, name) in wanted, seconds, what=what, told=lambda: story(machine, name))


def story(machine, name):
    """What an instance is, and why, and what was done with it last: in one line."""
    with machine.api() as api:
        found = api.get(f"{INSTANCES}/{name}").json()
        only = {"subject": found.get("id", ""), "limit": 2}
        operations = api.get("/projects/demo/operations", params=only).json().get("items", [])
    said = [f"{each['kind']}: {each['outcome'] or 'under way'} {each['reason']}" for each in operations]
    return "; ".join([f"it is {found.get('status')}: {found.get('status_reason')}", *said])


def delete(machine, name):
    with machine.api() as api:
        assert patiently(lambda: api.delete(f"{INSTANCES}/{name}?purge=true")).status_code in (202, 404)


def is_verified(machine):
    """Whether all invariants hold. What has just changed shows after the next heartbeat, ten seconds later at most."""
    return machine.pileus("verify", check=False).returncode == 0
