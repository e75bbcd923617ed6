"""Processes killed in the middle of launches and deletes, on a real cloud with real VMs: everything ends well.

The first VM runs through all of it and must not notice: same process, one boot.
"""

import json
import os
import signal
import threading
import time
from functools import partial

import pytest
import redis

from tests.clouds import wait_until
from tests.end_to_end.faults import INSTANCES, delete, is_verified, kill, launch, patiently, pid_of, story, wait_for

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]


@pytest.fixture
def first(machine):
    """The process of the first VM, which has to be the same afterwards."""
    before = machine.first_emulator()
    boots = len(machine.boots())
    yield
    assert machine.first_emulator() == before
    assert len(machine.boots()) == boots


@pytest.mark.parametrize("process", ["host", "control", "web", "valkey", "postgres"])
def test_a_process_killed_in_the_middle_of_a_launch_and_a_delete(machine, first, process):
    old, new = f"{process}-old", f"{process}-new"
    launch(machine, old)
    wait_for(machine, old, "running")

    asked = threading.Thread(target=lambda: (launch(machine, new), delete(machine, old)))
    asked.start()
    time.sleep(0.3)  # somewhere in the middle: wherever that is, it has to end well
    kill(machine, process)
    asked.join(120)

    wait_for(machine, new, "running")
    wait_for(machine, old, 404)
    delete(machine, new)
    wait_for(machine, new, 404)
    wait_until(lambda: is_verified(machine), 60, 2, "verify holds")


def test_the_host_worker_killed_in_the_middle_of_a_stop(machine, first):
    machine_id = launch(machine, "stopped")
    wait_for(machine, "stopped", "running")
    with machine.api() as api:
        assert api.post(f"{INSTANCES}/stopped/stop", json={"grace_seconds": 5}).status_code == 202
    kill(machine, "host")
    wait_for(machine, "stopped", "stopped", seconds=60)
    assert not machine.emulators(machine_id)
    delete(machine, "stopped")
    wait_for(machine, "stopped", 404, seconds=60)
    wait_until(lambda: is_verified(machine), 60, 2, "verify holds")


def test_a_flushed_redis_forgets_nothing_that_matters(machine, first):
    memory = json.loads(machine.home.memory.read_text())
    launch(machine, "flushed")
    with redis.Redis(
        host="127.0.0.1", port=memory["redis_port"], username="control", password=memory["redis_password"]
    ) as connection:
        connection.flushall()
        for user in connection.acl_list():
            name = user.split()[1]
            if name.startswith("h-"):
                connection.acl_deluser(name)
    wait_for(machine, "flushed", "running")
    delete(machine, "flushed")
    wait_for(machine, "flushed", 404)
    wait_until(lambda: is_verified(machine), 60, 2, "verify holds")


def test_an_emulator_that_is_killed_is_noticed_and_started_again(machine):
    machine_id = launch(machine, "crashing")
    wait_for(machine, "crashing", "running")
    (emulator,) = machine.emulators(machine_id)
    os.kill(emulator, signal.SIGKILL)
    is_noticed = partial(was_seen_killed, machine, machine_id)  # it may be starting for a moment only
    wait_until(is_noticed, 60, 0.2, "it is noticed", lambda: story(machine, "crashing"))
    wait_for(machine, "crashing", "running")
    (again,) = machine.emulators(machine_id)
    assert again != emulator
    delete(machine, "crashing")
    wait_for(machine, "crashing", 404)


def was_seen_killed(machine, machine_id):
    with machine.api() as api:
        found = patiently(lambda: api.get("/projects/demo/events", params={"subject": machine_id, "limit": 500}))
    reasons = [
        event["after"]["problem"] for event in found.json()["items"] if event["action"] == "compute.instance.seen"
    ]
    return any("killed" in reason or "signal" in reason or "unexpectedly" in reason for reason in reasons)


def test_a_stopped_redis_only_slows_things_down(machine, first):
    """Bells are lost: the control worker sweeps by itself, and the host looks every fifteen seconds."""
    valkey = pid_of(machine, "valkey")
    os.kill(valkey, signal.SIGSTOP)
    try:
        began = time.monotonic()
        launch(machine, "silent")
        assert time.monotonic() - began < 5, "a POST does not wait for Redis"
        wait_for(machine, "silent", "running")
    finally:
        os.kill(valkey, signal.SIGCONT)
    delete(machine, "silent")
    wait_for(machine, "silent", 404)


def test_verify_is_clean_after_all_of_it(machine):
    wait_until(lambda: is_verified(machine), 60, 2, "verify holds")
