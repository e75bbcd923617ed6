"""The first process of a container, with a shell in the worker's place."""

import os
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import sys
from agent.container import FirstProcess
sys.exit(FirstProcess([["/bin/sh", "-c", sys.argv[1]]], ("/bin/sh", "-c", sys.argv[2])).run())
"""


@pytest.fixture
def first_process(tmp_path):
    started = []

    def start(worker, at_the_end="exit 0"):
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, worker, at_the_end], cwd=tmp_path)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(condition, seconds=10):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)
    return found


def lines(file):
    return file.read_text().split() if file.exists() else []


def test_a_worker_that_ends_is_started_again_and_its_machines_stay(first_process, tmp_path):
    process = first_process("echo $$ >> workers; (setsid sleep 600 & echo $! >> machines); exec sleep 600")
    [worker] = map(int, wait_for(lambda: lines(tmp_path / "workers")))
    machine = int(wait_for(lambda: lines(tmp_path / "machines"))[0])
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: len(lines(tmp_path / "workers")) == 2)
    os.kill(machine, 0)
    for pid in lines(tmp_path / "machines"):
        os.kill(int(pid), signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{machine}"))  # buried: not even a zombie is left
    assert process.poll() is None


def test_told_to_stop_it_stops_the_worker_and_then_switches_the_machines_off(first_process, tmp_path):
    worker = "trap 'echo worker >> order; exit' TERM; touch ready; while :; do sleep 0.05; done"
    process = first_process(worker, "echo machines >> order; exit 7")
    wait_for((tmp_path / "ready").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 7
    assert lines(tmp_path / "order") == ["worker", "machines"]


def test_told_to_stop_between_two_workers_it_starts_none(first_process, tmp_path):
    process = first_process("echo $$ >> workers; exit 1", "echo machines >> order")
    wait_for(lambda: lines(tmp_path / "workers"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert lines(tmp_path / "order") == ["machines"]
