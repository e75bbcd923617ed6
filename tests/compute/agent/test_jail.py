"""The layers around an emulator, and starting one as nobody's child."""

import contextlib
import os
import signal
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from agent import emulators, jail, processes
from agent.errors import NoAnswer, Refused
from agent.jail import Confinement, Limits
from agent.paths import Paths
from agent.spawn import spawn
from compute.agent.homes import Homes

ROOT = os.geteuid() == 0
MACHINE = "6f1c1d6e-4c0e-4b43-9d53-2f6f0c1b9a01"


@pytest.fixture
def home(tmp_path):
    paths = Paths(tmp_path / "agent", tmp_path / "run")
    paths.make()
    Homes(paths).make()
    made = Homes(paths).of(MACHINE)
    made.directory.mkdir()
    return made


@pytest.fixture
def sleeper(home):
    process = spawn(["sleep", "60"], home, Confinement())
    yield process
    process.kill()
    process.wait(30)


def test_the_confinement_word_for_word():
    assert jail.prefix(Confinement()) == ["setpriv", "--no-new-privs", "--"]
    assert jail.prefix(Confinement(uid=5, drop_capabilities=True, own_namespaces=True, groups=(105, 106))) == [
        *("unshare", "--net", "--ipc", "--uts", "--"),
        *("setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"),
        *("--reuid=5", "--regid=5", "--groups=105,106", "--"),
    ]
    assert "--clear-groups" in jail.prefix(Confinement(uid=5))
    assert jail.prefix(Confinement(temporary=("of", "its", "own"), file_bytes=4096)) == [
        *("prlimit", "--fsize=4096:", "--", "of", "its", "own", "setpriv", "--no-new-privs", "--"),
    ]
    assert "--fsize=4096" in jail.prefix(Confinement(file_bytes=4096, for_good=True))


def test_limits_for_both_kinds_of_cgroups():
    limits = Limits(memory_mib=512, cpus=2.5, pids=100)
    v2 = {str(path): value for path, value in jail._limit_files("v2", "m", limits)}
    assert v2 == {
        "/sys/fs/cgroup/pileus/m/memory.max": "536870912",
        "/sys/fs/cgroup/pileus/m/cpu.max": "250000 100000",
        "/sys/fs/cgroup/pileus/m/pids.max": "100",
    }
    v1 = {str(path): value for path, value in jail._limit_files("v1", "m", limits)}
    assert v1["/sys/fs/cgroup/memory/pileus/m/memory.limit_in_bytes"] == "536870912"
    assert v1["/sys/fs/cgroup/cpu/pileus/m/cpu.cfs_quota_us"] == "250000"


def test_what_is_missing_has_a_reason(home, tmp_path):
    found = jail.probe(Paths(tmp_path / "agent", tmp_path / "run"))
    described = found.describe()
    for layer in ("uid", "capabilities", "namespaces", "private_temporary_folders", "file_size_limit", "cgroup"):
        assert bool(described[layer]) == (layer not in found.missing)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    if ROOT:
        assert "closed to other users" in jail.probe(Paths(closed / "agent", closed / "run")).missing["uid"]


def test_an_emulator_is_nobodys_child_and_alone_in_its_session(sleeper):
    deadline = time.monotonic() + 10
    while Path(f"/proc/{sleeper.pid}/comm").read_text() != "sleep\n":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    status = Path(f"/proc/{sleeper.pid}/status").read_text()
    assert f"PPid:\t{os.getpid()}\n" not in status
    assert "NoNewPrivs:\t1" in status
    assert os.getsid(sleeper.pid) == sleeper.pid
    assert os.readlink(f"/proc/{sleeper.pid}/cwd") == "/"
    assert set(os.listdir(f"/proc/{sleeper.pid}/fd")) >= {"0", "1", "2"}


def test_a_second_one_is_refused_while_the_first_lives(home, sleeper):
    assert emulators.find(home) == sleeper
    with pytest.raises(Refused, match="running already"):
        spawn(["sleep", "60"], home, Confinement())
    sleeper.kill()
    assert sleeper.wait(30)
    assert emulators.find(home) is None
    second = spawn(["sleep", "60"], home, Confinement())
    assert second != sleeper
    second.kill()


def test_one_that_ends_at_once_says_why(home):
    with contextlib.suppress(Refused):  # unless it was seen alive for a moment
        assert spawn(["/no/such/emulator"], home, Confinement()).wait(10)
    assert "No such file or directory" in processes.tail(home.emulator_log)


def test_a_pid_that_was_used_again_is_not_the_machine(home, sleeper):
    assert processes.Process(sleeper.pid, sleeper.started).alive
    assert not processes.Process(sleeper.pid, sleeper.started + 1).alive
    processes.Process(sleeper.pid, sleeper.started + 1).kill()
    assert sleeper.alive


def test_something_that_holds_the_lock_and_has_no_name_is_not_overlooked(home, sleeper, monkeypatch):
    monkeypatch.setattr(emulators, "MAX_SECONDS_TO_WRITE_PID", 0.1)
    home.pid.unlink()
    with pytest.raises(NoAnswer):
        emulators.find(home)


def test_how_it_ended_is_told_where_the_kernel_tells(sleeper):
    pidfd = os.pidfd_open(sleeper.pid)
    sleeper.kill()
    assert sleeper.wait(30)
    assert processes.exit_words(sleeper, pidfd) in ("was killed by SIGKILL", "")
    os.close(pidfd)


def test_it_lives_on_when_its_starter_is_killed(home):
    child = os.fork()
    if child == 0:
        spawn(["sleep", "60"], home, Confinement())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    process = emulators.find(home)
    assert process is not None
    process.kill()


@pytest.fixture
def confined(open_home):
    """Runs shell scripts as emulators, each of a machine and a user of its own; gives the machine and the process."""
    paths = Paths(open_home / "agent", open_home / "run")
    paths.make()
    Homes(paths).make()
    found, running = jail.probe(paths), []

    def run(script, file_bytes=None):
        uid = jail.first_uid() + len(running)
        home = Homes(paths).of(str(uuid.uuid4()))
        for folder in (home.directory, home.runtime):
            folder.mkdir(mode=0o711)
        confinement = found.confine(uid, file_bytes=file_bytes)
        if confinement.uid is not None:
            os.chown(home.runtime, uid, uid)
        running.append(spawn(["sh", "-c", script.format(mine=home.runtime)], home, confinement))
        return home, running[-1], confinement

    run.jail = found
    yield run
    for process in running:
        process.kill()
        process.wait(10)


def said_by(home, words):
    """Wait until an emulator has said this; all that it said."""
    deadline = time.monotonic() + 60
    while words not in (said := processes.tail(home.emulator_log, 4000)):
        assert time.monotonic() < deadline, said
        time.sleep(0.01)
    return said


def test_no_emulator_sees_temporary_files_of_others(confined):
    if not confined.jail.temporary:
        pytest.skip("no temporary folders of their own here")
    name = f"pileus-{uuid.uuid4()}"
    folders = [folder for folder in ("/tmp", "/var/tmp", "/dev/shm") if Path(folder).is_dir()]
    for folder in folders:
        Path(folder, f"{name}-host").write_text("of the host")
    plant = "; ".join(f"echo secret > {folder}/{name}" for folder in folders)
    try:
        writer, _, _ = confined(f"echo mine > {{mine}}/seen && {plant} && echo PLANTED; sleep 60")
        said_by(writer, "PLANTED")
        assert (writer.runtime / "seen").read_text() == "mine\n", "what is its own it sees, also below such a folder"
        looks = "; ".join(f"ls {folder} | sed s,^,{folder}:," for folder in folders)
        reader, _, _ = confined(f"{looks}; echo LOOKED; sleep 60")
        assert name not in said_by(reader, "LOOKED")
        assert not [folder for folder in folders if Path(folder, name).exists()]
        filler, _, _ = confined("head -c 64M /dev/zero > /dev/shm/much; wc -c < /dev/shm/much; echo FULL; sleep 60")
        assert str(16 << 20) in said_by(filler, "FULL")
    finally:
        for folder in folders:
            Path(folder, f"{name}-host").unlink()


def test_an_emulator_writes_no_file_that_is_larger_than_it_may(confined):
    write = "head -c 3000000 /dev/zero > {mine}/disk; wc -c < {mine}/disk; echo WROTE"
    home, process, confinement = confined(
        f"{write} $?; until [ -e {{mine}}/go ]; do sleep 0.05; done; {write} again; sleep 60", 1_000_000
    )
    said = said_by(home, "WROTE")
    assert "File too large" in said, "an error, and not a signal that ends it"
    assert "1000000" in said.split()
    assert process.file_limit() == 1_000_000
    jail.raise_file_limit(process, replace(confinement, file_bytes=500_000))
    assert process.file_limit() == 1_000_000, "a limit is not lowered: such a file may be there"
    jail.raise_file_limit(process, replace(confinement, file_bytes=4_000_000))
    assert processes.Process(process.pid, process.started).file_limit() == 4_000_000, "the next agent reads it"
    (home.runtime / "go").touch()
    assert "3000000" in said_by(home, "WROTE again").split()


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_an_emulator_cannot_lift_its_limit_where_the_agent_can(confined):
    if not confined.jail.file_size:
        pytest.skip("the agent has no right to lift limits here")
    home, _, _ = confined("prlimit --pid=$$ --fsize=unlimited || echo REFUSED; sleep 60", 1_000_000)
    said_by(home, "REFUSED")


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_a_confined_process_can_do_nothing_to_the_host(open_home):
    paths = Paths(open_home / "agent", open_home / "run")
    paths.make()
    Homes(paths).make()
    home = Homes(paths).of(MACHINE)
    home.directory.mkdir()
    home.directory.chmod(0o710)
    secret = open_home / "agent" / "ledger.sqlite3"
    secret.write_text("secret")
    secret.chmod(0o600)
    script = f"""
        id -u; grep -h ^Cap /proc/self/status | cut -f 2 | sort -u
        cat {secret} > /dev/null 2>&1 && echo READ
        ls {home.directory} > /dev/null 2>&1 && echo LISTED
        kill -0 {os.getpid()} 2> /dev/null && echo SIGNALLED
        touch {home.directory}/new 2> /dev/null && echo WROTE
        cat /proc/net/dev | wc -l
    """
    confinement = Confinement(uid=jail.first_uid(), drop_capabilities=True, own_namespaces=True)
    spawn(["sh", "-c", f"sleep 0.5; {script}"], home, confinement).wait(10)
    said = home.emulator_log.read_text().split()
    assert said == [str(jail.first_uid()), "0000000000000000", "3"]  # loopback alone, below two lines of heading
