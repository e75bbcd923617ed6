"""The supervisor, with real processes."""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloud.embedded import supervisor
from cloud.embedded.files import make_folder
from cloud.embedded.paths import Home
from cloud.embedded.supervision import ProcessFailed, Supervision
from tests.agent.test_processes import LEADER_ENDS


def spec(name, script, **more):
    defaults = {"env": {"PATH": os.defpath}, "cwd": "/", "uid": None, "gid": None}
    return (
        {"name": name, "argv": ["/bin/sh", "-c", script], "stop_signal": "SIGTERM", "stop_seconds": 5} | defaults | more
    )


SLEEPER = "exec sleep 600"


@pytest.fixture
def supervision(tmp_path, monkeypatch):
    monkeypatch.setenv("PILEUS_RUNTIME_DIR", str(tmp_path / "run"))
    home = Home(tmp_path)
    make_folder(home.secrets, mode=0o700)
    make_folder(home.log)
    supervision = Supervision(home)
    yield supervision
    supervision.leave()


def wait_for(condition, seconds=10):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)
    return found


def process(supervision, name):
    return next(process for process in supervision.ask("status") if process.name == name)


def running(supervision, name):
    return wait_for(lambda: (found := process(supervision, name)).state == "running" and found)


def test_what_is_started_runs_and_what_is_not_does_not(supervision):
    supervision.ensure([spec("one", SLEEPER), spec("two", SLEEPER)])
    supervision.start("one")
    running(supervision, "one")
    assert process(supervision, "two").state == "stopped"


def test_a_process_that_is_killed_comes_back(supervision):
    supervision.ensure([spec("one", SLEEPER)])
    supervision.start("one")
    first = running(supervision, "one")
    os.kill(first.pid, signal.SIGKILL)
    again = wait_for(lambda: (found := process(supervision, "one")).pid not in (None, first.pid) and found)
    assert again.last_end == "ended by SIGKILL"


def test_a_process_that_keeps_ending_is_started_with_growing_pauses_and_reported(supervision):
    supervision.ensure([spec("one", "echo no database >&2; exit 3")])
    supervision.start("one")
    wait_for(lambda: process(supervision, "one").ends_in_a_row >= 3)
    with pytest.raises(ProcessFailed, match=r"(?s)one ended with status 3:.*no database"):
        supervision.check("one")
    pauses = [
        line.rpartition("again in ")[2]
        for line in (supervision.home.log / "supervisor.log").read_text().splitlines()
        if "again" in line
    ]
    assert pauses[:3] == ["0.25 s", "0.5 s", "1 s"]


def test_a_program_that_does_not_exist_is_reported(supervision):
    supervision.ensure([spec("one", "", argv=["/nonexistent"])])
    supervision.start("one")
    assert "could not start" in wait_for(lambda: process(supervision, "one").last_end)


def test_stop_waits_for_the_end_and_kills_what_ignores_its_signal(supervision):
    supervision.ensure([spec("deaf", "trap '' TERM; echo ready; while :; do sleep 1; done", stop_seconds=0.3)])
    supervision.start("deaf")
    pid = running(supervision, "deaf").pid
    wait_for(lambda: "ready" in (supervision.home.log / "deaf.log").read_text())
    supervision.stop("deaf")
    assert supervisor.start_time(pid) is None
    assert process(supervision, "deaf").state == "stopped"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the number of the system call is of x86-64")
def test_a_process_lives_as_long_as_one_of_its_threads():
    child = subprocess.Popen([sys.executable, "-c", LEADER_ENDS], stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
    wait_for(lambda: Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    assert supervisor.start_time(child.pid)
    child.kill()
    child.wait()
    assert supervisor.start_time(child.pid) is None


def test_leaving_stops_one_after_the_other_the_last_of_the_table_first(supervision):
    last_words = "trap 'sleep 0.2; echo {0} >> {1}; exit' TERM; echo ready; while :; do sleep 0.05; done"
    order = supervision.home.root / "order"
    supervision.ensure([spec(name, last_words.format(name, order)) for name in ("database", "web", "host")])
    supervision.start("database", "web", "host")
    for name in ("database", "web", "host"):
        wait_for(
            lambda name=name: (log := supervision.home.log / f"{name}.log").exists() and "ready" in log.read_text()
        )
    supervision.leave()
    assert order.read_text().split() == ["host", "web", "database"]
    assert not supervision.home.pids.exists()


def test_children_go_with_a_supervisor_that_is_killed_and_the_next_one_starts_clean(supervision):
    supervision.ensure([spec("one", SLEEPER)])
    supervision.start("one")
    before = running(supervision, "one").pid
    os.kill(json.loads(supervision.home.pids.read_text())["supervisor"][0], signal.SIGKILL)
    wait_for(lambda: supervisor.start_time(before) is None)
    assert not supervision.is_up()
    assert supervision.ensure([spec("one", SLEEPER)]) is True
    supervision.start("one")
    assert running(supervision, "one").pid != before


def test_a_remnant_that_ignores_its_signal_is_killed_but_never_a_stranger_with_its_pid(supervision):
    supervision.ensure([spec("deaf", "trap '' TERM; echo ready; while :; do sleep 1; done")])
    supervision.start("deaf")
    pid = running(supervision, "deaf").pid
    wait_for(lambda: "ready" in (supervision.home.log / "deaf.log").read_text())
    pids = json.loads(supervision.home.pids.read_text())
    os.kill(pids["supervisor"][0], signal.SIGKILL)
    wait_for(lambda: supervisor.start_time(pids["supervisor"][0]) is None)
    me = [os.getpid(), supervisor.start_time(os.getpid()) - 1]
    supervision.home.pids.write_text(json.dumps(pids | {"stranger": me}))
    supervision.clear_remnants(seconds=0.2)
    assert supervisor.start_time(pid) is None


def test_pids_of_before_a_reboot_are_nobody_s(supervision):
    mine = [os.getpid(), supervisor.start_time(os.getpid())]
    supervision.home.pids.write_text(json.dumps({"boot_id": "another", "web": mine}))
    supervision.clear_remnants(seconds=0)
    assert not supervision.home.pids.exists()


def test_a_second_ensure_keeps_what_runs_and_takes_new_commands_for_the_next_start(supervision):
    supervision.ensure([spec("one", SLEEPER)])
    supervision.start("one")
    before = running(supervision, "one").pid
    assert supervision.ensure([spec("one", "echo new; exec sleep 600")]) is False
    assert process(supervision, "one").pid == before
    supervision.stop("one")
    supervision.start("one")
    running(supervision, "one")
    wait_for(lambda: "new" in (supervision.home.log / "one.log").read_text())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root")
def test_a_process_gives_up_root_with_all_its_groups(supervision):
    supervision.ensure([spec("one", "id; exec sleep 600", uid=65534, gid=65534)])
    supervision.start("one")
    words = wait_for(lambda: (log := supervision.home.log / "one.log").exists() and log.read_text())
    assert words.startswith("uid=65534")
    assert "root" not in words


def test_its_socket_is_for_its_owner_only(supervision):
    supervision.ensure([])
    assert supervision.home.supervisor_socket.stat().st_mode & 0o077 == 0


def test_a_long_log_is_set_aside_and_goes_on_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "LOG_BYTES", 10)
    (tmp_path / "p.json").write_text("[]")
    watcher = supervisor.Supervisor(tmp_path, tmp_path / "p.json", tmp_path / "s", tmp_path / "pids", tmp_path)
    log = tmp_path / "web.log"
    with log.open("a") as writer:
        for generation in ("first", "second", "third", "fourth", "fifth"):
            writer.write(f"{generation} {'x' * 10}\n")
            writer.flush()
            watcher.rotate_logs()
        writer.write("now\n")
    assert log.read_text() == "now\n"
    kept = {path.name: path.read_text().split()[0] for path in tmp_path.glob("web.log.*")}
    assert kept == {"web.log.1": "fifth", "web.log.2": "fourth", "web.log.3": "third"}


def test_it_stays_small(supervision):
    supervision.ensure([spec("one", SLEEPER)])
    pid = json.loads(
        wait_for(lambda: supervision.home.pids.exists() and supervision.home.pids.read_text() or _start(supervision))
    )["supervisor"][0]
    pss = next(line for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
    assert int(pss.split()[1]) < 16 * 1024


def _start(supervision):
    supervision.start("one")
