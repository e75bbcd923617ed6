"""Every verb of a machine, while a process with its emulator's user plants traps wherever it can write."""

import os
import socket
import stat
import time
import uuid
from pathlib import Path

import pytest

from agent import folders, jail
from agent.paths import Paths
from compute.agent import sockets
from compute.agent.homes import Homes
from compute.agent.hypervisors.qemu.control import QemuControl
from compute.agent.hypervisors.unicorn import control as unicorn
from tests.compute.agent import hostile
from tests.compute.agent.unicorn import payload
from tests.compute.agent.virtual import QemuNode, put_image_file
from tests.hosts import make_spec

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="emulators have users of their own only under root"),
    pytest.mark.timeout(400),
]
VERBS = (
    *("ensure_running", "ensure_paused", "ensure_running", "ensure_suspended", "snapshot", "ensure_running"),
    *("snapshot", "reboot", "ensure_suspended", "ensure_running", "ensure_stopped", "ensure_running"),
)
MAX_SECONDS = 60.0  # for one order; a FIFO or an endless file holds it up for ever
SIZE = 1 << 20


@pytest.fixture
def victim(open_home):
    return hostile.Victim(open_home / "victim").make()


@pytest.fixture(params=["qemu", "unicorn"])
def spec(request, control_plane, tmp_path, kernel_spec):
    if request.param == "qemu":
        return kernel_spec
    file = put_image_file(control_plane, tmp_path, "kernel", payload.greeting())
    image = {"id": "1", "name": "i", "architecture": "riscv64", "files": [file], "kernel_command_line": ""}
    return make_spec("small", hypervisor="unicorn", architecture="riscv64", image=image)


@pytest.fixture
def node(control_plane, open_home, monkeypatch):
    monkeypatch.setenv("PILEUS_UNICORN", "1")
    monkeypatch.setattr(unicorn, "SECONDS_TO_SAVE", 5.0)
    node = QemuNode(control_plane.url, open_home)
    if not node.tools.jail.uid:
        pytest.skip("no users of their own for emulators here")
    yield node
    for entry in node.ledger.entries():
        control_plane.order("ensure_gone", {"id": entry.id}, entry.generation + 1)
    node.look_once()
    assert node.ledger.entries() == []


@pytest.mark.vm
@pytest.mark.parametrize("only_links", [True, False], ids=["links", "traps"])
def test_every_verb_while_the_emulators_user_plants(node, control_plane, spec, victim, monkeypatch, only_links):
    snapshot = str(uuid.uuid4())
    machine = node.machine(spec["id"])
    traps = hostile.Traps.of(victim, machine.home, snapshot, only_links=only_links)
    turns = iter(range(10**6))
    generation = 0

    def order(verb):
        nonlocal generation
        generation += 1
        changes = {}
        if verb == "snapshot":
            verb, changes = "ensure_running", {"snapshot": snapshot}
        elif verb == "reboot":
            verb, changes = "ensure_running", {"reboot": {"nonce": str(generation), "hard": True}}
        control_plane.order(verb, {**spec, **changes, "stop": {"force": True}}, generation)
        began = time.monotonic()
        node.look_once()
        assert time.monotonic() - began < MAX_SECONDS, verb
        victim.assert_untouched()
        return control_plane.last(spec["id"])

    assert order("ensure_running")["seen"] == "running"
    uid = node.record(spec["id"]).uid
    assert uid is not None

    for control in (QemuControl, unicorn.UnicornControl):  # the emulator plants at the one moment that matters, too
        monkeypatch.setattr(control, "save", _after_planting(control.save, uid, traps, turns))
    seen = []
    with hostile.at_work(uid, machine.home, traps):
        for verb in VERBS:
            seen.append(order(verb)["seen"])
            node.machines.disk_bytes()
            node.machines.clear_up()
    assert seen.count("broken") < len(seen), "some of it must have worked for this test to mean anything"
    # Nothing of what was planted is left in what is ours by now.
    for name in folders.names(machine.home.directory):
        found = folders.status(machine.home.directory / name)
        assert stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode), name
    assert order("ensure_running")["seen"] == "running", "its own machine recovers when that is over"
    with hostile.at_work(uid, machine.home, traps):
        assert order("ensure_gone")["seen"] == "gone"
    assert not machine.home.directory.exists()


def _after_planting(save, uid, traps, turns):
    def planted(control, directory, *arguments):
        for _ in range(2):
            hostile.plant_now(uid, traps, next(turns))
        return save(control, directory, *arguments)

    return planted


@pytest.fixture
def home(open_home):
    paths = Paths(open_home / "agent", open_home / "run")
    paths.make()
    homes = Homes(paths)
    homes.make()
    made = homes.of(str(uuid.uuid4()))
    made.directory.mkdir(mode=0o710)
    os.chown(made.directory, 0, jail.first_uid())
    yield made
    folders.remove(made.directory)


def lend(path: Path) -> Path:
    path.mkdir(mode=0o700)
    os.chown(path, jail.first_uid(), jail.first_uid())
    return path


@pytest.mark.parametrize("turn", range(10))
def test_what_was_planted_in_a_lent_folder_is_gone_when_it_is_ours_again(home, victim, turn):
    uid = jail.first_uid()
    folders.make_folder(home.saved, 0o711)
    with folders.lent(home.saved, uid):
        hostile.plant_now(uid, hostile.Traps(victim, [home.saved]), turn)
        before = folders.names(home.saved)
    assert len(before) > 10
    for name in folders.names(home.saved):
        found = folders.status(home.saved / name)
        assert (stat.S_ISREG(found.st_mode), found.st_nlink) == (True, 1)
    found = home.saved.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, 0, 0o711)
    folders.remove(home.saved)
    assert folders.status(home.saved) is None
    victim.assert_untouched()


@pytest.mark.parametrize("turn", range(10))
def test_nothing_that_was_planted_is_opened_given_linked_copied_or_waited_for(home, victim, turn):
    uid, folder = jail.first_uid(), lend(home.saved)
    hostile.plant_now(uid, hostile.Traps(victim, [folder]), turn)
    for name in folders.names(folder):
        path = folder / name
        huge = stat.S_ISREG(folders.status(path).st_mode)
        for number, act in enumerate(
            (
                lambda path: folders.read_file(path, SIZE),
                lambda path: folders.give_file(path, 0, 0o444),
                lambda path: folders.open_file(path, os.O_RDWR | os.O_CREAT),
                lambda path: folders.copy_file(path, home.directory / f"copy-{uuid.uuid4()}", min_free=0),
            )
        ):
            if huge and number in (1, 2, 3):
                continue
            with pytest.raises(OSError, match=".") as refused:
                act(path)
            assert isinstance(refused.value, PermissionError), (name, refused.value)
        with pytest.raises(FileExistsError):
            folders.create_file(path)
        assert not sockets.exists(path)
        with pytest.raises(PermissionError), sockets.address(home, path):
            pass
    victim.assert_untouched()


def test_another_machines_socket_is_not_connected_to(home, open_home):
    listener = socket.socket(socket.AF_UNIX)
    folder = lend(home.runtime)
    listener.bind(str(folder / "control"))
    listener.listen()
    for owner, is_own in ((jail.first_uid(), True), (0, True), (jail.first_uid() + 1, False)):
        os.chown(folder / "control", owner, owner)
        if is_own:
            sockets.connect(home, home.control_socket, 1).close()
        else:
            with pytest.raises(PermissionError):
                sockets.connect(home, home.control_socket, 1)
    listener.close()


def test_an_emulator_that_talks_without_an_end_is_not_listened_to(home):
    for said, problem in ((b"x" * 4096, ValueError), (b"", TimeoutError)):
        ours, its = socket.socketpair()
        child = hostile.as_user(jail.first_uid(), lambda said=said, its=its: _talk(its, said))
        began = time.monotonic()
        with pytest.raises(problem):
            sockets.Lines(ours, 0.5).read()
        assert time.monotonic() - began < 20
        os.kill(child, 9)
        os.waitpid(child, 0)


def _talk(connection, said):
    while True:
        if said:
            connection.sendall(said)
        else:
            connection.sendall(b"x")
            time.sleep(0.05)


def test_a_copy_keeps_holes_and_ends_where_the_file_ended(home, tmp_path):
    source = home.directory / "disk.qcow2"
    with source.open("wb") as file:
        file.write(b"begin")
        file.seek(1 << 40)
        file.write(b"end")
    copy = home.directory / "copy"
    folders.copy_file(source, copy, min_free=0)
    found = copy.stat()
    assert (found.st_size, found.st_blocks * 512 < SIZE) == ((1 << 40) + 3, True)
    with copy.open("rb") as file:
        assert file.read(5) == b"begin"
        file.seek(1 << 40)
        assert file.read() == b"end"
    with pytest.raises(OSError, match="no room"):
        folders.copy_file(source, home.directory / "another", min_free=1 << 60)
