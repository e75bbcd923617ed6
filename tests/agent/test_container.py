"""The first process of a container, with a shell in the worker's place."""

import os
import signal
import subprocess
import sys
import time

import pytest

from agent.container import leave_root_cgroup

PROGRAM = """
import sys
from pathlib import Path
from agent.container import FirstProcess
has_joined = Path(sys.argv[3]).exists
sys.exit(FirstProcess([["/bin/sh", "-c", sys.argv[1]]], ("/bin/sh", "-c", sys.argv[2]), has_joined).run())
"""


@pytest.fixture
def first_process(tmp_path):
    started = []

    def start(worker, at_the_end="exit 0", joined="/"):
        command = [sys.executable, "-c", PROGRAM, worker, at_the_end, str(joined)]
        with (tmp_path / "said").open("wb") as said:
            process = subprocess.Popen(command, cwd=tmp_path, stdout=said)
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()  # it ends its worker, too
        process.wait(30)


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


def test_until_it_has_joined_it_says_so_once_and_starts_nothing(first_process, tmp_path):
    process = first_process("echo $$ >> workers; exec sleep 600", joined=tmp_path / "agent.json")
    wait_for((tmp_path / "said").read_text)
    assert not (tmp_path / "workers").exists()
    (tmp_path / "agent.json").touch()
    wait_for(lambda: lines(tmp_path / "workers"))
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    (said,) = (tmp_path / "said").read_text().splitlines()
    assert "waits to join a cloud: pileus-agent join" in said


@pytest.mark.parametrize(
    ("own", "version_2", "moved"),
    [("0::/\n", True, True), ("0::/system.slice/docker-1\n", True, False), ("4:memory:/\n0::/\n", False, False)],
)
def test_it_leaves_the_inner_group_of_a_container_of_its_own_only(tmp_path, own, version_2, moved):
    (tmp_path / "own").write_text(own)
    if version_2:
        (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    leave_root_cgroup(tmp_path, tmp_path / "own")
    leaf = tmp_path / "first-process" / "cgroup.procs"
    assert leaf.exists() is moved
    assert not moved or leaf.read_text() == str(os.getpid())


def test_a_cgroup_that_is_read_only_is_said_and_no_harm(tmp_path, capsys):
    (tmp_path / "own").write_text("0::/\n")
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    (tmp_path / "first-process").write_text("in the way")
    leave_root_cgroup(tmp_path, tmp_path / "own")
    assert "stays as it is" in capsys.readouterr().out
