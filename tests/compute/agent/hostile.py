"""A process with the uid of a machine's emulator, as after an escape, that turns every name it can write elsewhere."""

import contextlib
import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from compute.agent.homes import Home

SECRET = "only root knows this"
NAMES = (
    *("state", "memory", "state.json", "state.json.new", "clone", "zzz", "disk.qcow2", "disk.new", "seed.iso"),
    *("console.log", "emulator.log", "host-key", "host-key.new", "alive", "pid", "pid.new"),
    *("control", "events", "serial", "vnc", "agent", "frozen", "new"),
)
OPENED_BY_EMULATORS = ("memory", "state.json", "state.json.new")
UNUSED_BY_EMULATORS = ("state", "zzz")  # with these planted the real emulator still succeeds, and the agent goes on


@dataclass
class Victim:
    """Things of root that no machine may change, read or reach through the agent."""

    directory: Path

    def make(self) -> "Victim":
        self.directory.mkdir(mode=0o711)
        self.file.write_text(SECRET)
        self.file.chmod(0o600)
        self.folder.mkdir(mode=0o700)
        (self.folder / "kept").write_text(SECRET)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.socket))
        self.socket.chmod(0o777)
        self.listener.listen(64)
        self.listener.setblocking(False)
        self._before = self._look()
        return self

    @property
    def file(self) -> Path:
        return self.directory / "secret"

    @property
    def folder(self) -> Path:
        return self.directory / "folder"

    @property
    def socket(self) -> Path:
        return self.directory / "socket"

    def _look(self) -> list[object]:
        paths = (self.file, self.folder, self.folder / "kept", self.socket)
        found = [(path.name, path.stat()) for path in paths]
        rights = [(name, stat.filemode(found.st_mode), found.st_uid, found.st_gid) for name, found in found]
        return [*rights, self.file.read_text(), (self.folder / "kept").read_text(), self.file.stat().st_nlink]

    def assert_untouched(self) -> None:
        assert self._look() == self._before
        with contextlib.suppress(BlockingIOError):
            self.listener.accept()
            raise AssertionError("the agent has connected to a socket that is not the machine's")


@dataclass(frozen=True)
class Traps:
    """What is planted, and in which folders. `only_links`: links to the secret, which is what harms most."""

    victim: Victim
    folders: list[Path]
    only_links: bool = False

    @classmethod
    def of(cls, victim: Victim, home: Home, snapshot: str, *, only_links: bool) -> "Traps":
        kept = home.snapshot(snapshot)
        saved = [home.saved.with_name(name) for name in ("saved", "saved.new", "saved.old")]
        saved += [kept, kept.with_name(f"new-{kept.name}")]
        return cls(victim, saved if only_links else [home.runtime, home.directory, *saved], only_links)


def plant(traps: Traps, turn: int) -> None:
    """Put traps under every name in every folder, as whoever calls it: one kind after another."""
    victim = traps.victim
    kinds: tuple[Callable[[Path], object], ...] = (
        lambda path: os.symlink(victim.file, path),
        os.mkfifo,
        lambda path: os.symlink("/dev/zero", path),
        lambda path: os.symlink(victim.socket, path),
        lambda path: os.symlink(victim.folder, path),
        lambda path: os.link(victim.file, path),
        _huge,
        _deep,
        lambda path: os.symlink(path, path),
        lambda path: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5)),
    )
    if traps.only_links:
        kinds = kinds[:1]
    for folder in traps.folders:
        for number, name in enumerate(UNUSED_BY_EMULATORS if traps.only_links else NAMES):
            path = folder / name
            if kinds[(turn + number) % len(kinds)] is os.mkfifo and name in OPENED_BY_EMULATORS:
                continue  # the real emulator, which goes on beside this process, would wait there itself
            for attempt in range(3):  # some kinds are refused to all but root
                with contextlib.suppress(OSError):
                    kinds[(turn + number + attempt) % len(kinds)](path)
                    break


def _huge(path: Path) -> None:
    with path.open("xb") as file:
        file.truncate(1 << 42)


def _deep(path: Path) -> None:
    path.mkdir()
    here = os.open(path, os.O_DIRECTORY)
    # Deeper than Python's stack, and than there are descriptors; once, as it takes more than a second.
    for _ in range(1200 if path.name == "zzz" else 3):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)


def as_user(uid: int, act: Callable[[], None]) -> int:
    """Fork a child that does something as this user; its pid."""
    child = os.fork()
    if child:
        return child
    try:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        act()
    finally:
        os._exit(0)


def plant_now(uid: int, traps: Traps, turn: int) -> None:
    os.waitpid(as_user(uid, lambda: plant(traps, turn)), 0)


@contextlib.contextmanager
def at_work(uid: int, home: Home, traps: Traps) -> Iterator[None]:
    """Plant without end; the machine's own console log is now huge, now endless."""

    def act() -> None:
        turn = 0
        while True:
            turn += 1
            plant(traps, turn)
            with contextlib.suppress(OSError), home.console_log.open("r+b") as log:
                log.truncate(1 << 42 if turn % 50 == 0 else 1 << 16)
            time.sleep(0.001)

    child = as_user(uid, act)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
