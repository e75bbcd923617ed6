"""Where networks live: network namespaces, each with a name, that outlive the process that made them.

An anchor, a process that only sleeps, holds a mount namespace in which a tmpfs names the network namespaces; for an
ordinary user it holds a user namespace and an outermost network namespace too. The network process enters these when it
starts. When the anchor ends, the kernel removes everything; nothing of it is to be seen in the host's own mounts.
"""

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from agent.processes import Process, start_time

NEW_MOUNTS, NEW_USER, NEW_NETWORK = 0x00020000, 0x10000000, 0x40000000
BIND, RECURSIVE, SLAVE, DETACH = 0x1000, 0x4000, 0x80000, 2
NO_SUID, NO_DEVICES, NO_EXECUTION = 2, 4, 8
OWN = "/proc/thread-self/ns/net"
SECONDS_TO_START = 10.0
# What root keeps: networks, their sockets, entering namespaces and naming them.
CAPABILITIES = {"NET_BIND_SERVICE": 10, "NET_ADMIN": 12, "NET_RAW": 13, "SYS_ADMIN": 21}

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    _call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())


class Namespaces:
    """The named network namespaces below a directory. Each name is a directory with room for files about it."""

    def __init__(self, directory: Path, anchor: int) -> None:
        self.directory = directory
        self.anchor = anchor
        self.outermost = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)  # of the thread that makes this object
        self._within = threading.local()

    def names(self) -> list[str]:
        """Those that are complete; what a killed process left half-made is removed."""
        found = []
        for directory in self.directory.iterdir():
            if os.path.ismount(directory / "net"):
                found.append(directory.name)
            else:
                self.remove(directory.name)
        return sorted(found)

    def make(self, name: str) -> None:
        """Make a namespace, if there is none of this name."""
        file = self.directory / name / "net"
        if os.path.ismount(file):
            return
        file.parent.mkdir(exist_ok=True)
        file.touch()
        before = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _call("unshare", NEW_NETWORK)
            _mount(OWN, str(file), "", BIND)
        finally:
            _call("setns", before, NEW_NETWORK)
            os.close(before)

    def remove(self, name: str) -> None:
        """Forget a namespace: the kernel removes it with its devices when nobody is inside any more."""
        directory = self.directory / name
        with contextlib.suppress(OSError):
            _call("umount2", str(directory / "net").encode(), DETACH)
        for file in directory.iterdir() if directory.exists() else ():
            file.unlink()
        with contextlib.suppress(FileNotFoundError):
            directory.rmdir()

    def open(self, name: str | None) -> int:
        """A descriptor of a namespace; None: the outermost. The caller closes it."""
        if name is None:
            return os.dup(self.outermost)
        return os.open(self.directory / name / "net", os.O_RDONLY | os.O_CLOEXEC)

    @contextlib.contextmanager
    def within(self, name: str | None) -> Iterator[None]:
        """Be in a namespace with this thread; sockets that are made there stay there."""
        before = getattr(self._within, "name", None)
        self._enter(name)
        try:
            yield
        finally:
            self._enter(before)

    def _enter(self, name: str | None) -> None:
        handle = self.open(name)
        try:
            _call("setns", handle, NEW_NETWORK)
            self._within.name = name
        finally:
            os.close(handle)


@contextlib.contextmanager
def throwaway() -> Iterator[None]:
    """A network namespace for this thread that is gone afterwards: for trying what the kernel can do."""
    before = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", NEW_NETWORK)
        yield
    finally:
        _call("setns", before, NEW_NETWORK)
        os.close(before)


def enter(directory: Path, record: Path) -> Namespaces:
    """Enter the namespaces of the anchor, which is started when there is none. To be called before there are threads.

    `directory` is where the anchor's tmpfs is mounted, `record` the file that names the anchor.
    Raises PermissionError, in words, where an ordinary user may make no user namespace.
    """
    directory.mkdir(parents=True, exist_ok=True)
    anchor = (_running(record) or _start(directory, record)).pid
    kinds = ["mnt"] if os.geteuid() == 0 else ["user", "net", "mnt"]
    handles = [os.open(f"/proc/{anchor}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds]
    for handle in handles:
        _call("setns", handle, 0)
        os.close(handle)
    return Namespaces(directory, anchor)


def is_anchored(record: Path) -> bool:
    """Whether there are namespaces to go on with."""
    return _running(record) is not None


def end_anchor(record: Path) -> None:
    """Remove every namespace at once, with all that is in it."""
    if anchor := _running(record):
        anchor.kill()
    record.unlink(missing_ok=True)


def _running(record: Path) -> Process | None:
    try:
        pid, started = record.read_text().split()
    except (OSError, ValueError):
        return None
    anchor = Process(int(pid), int(started))
    return anchor if anchor.alive else None


def _start(directory: Path, record: Path) -> Process:
    """The anchor is a grandchild, so that nobody has to wait for it; it says over a pipe that it is ready."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.close(reader)
        if os.fork() == 0:
            _become_anchor(directory, writer)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    if not answer.startswith("ready "):
        raise PermissionError(answer or "the anchor of the namespaces did not start")
    pid = int(answer.split()[1])
    deadline = time.monotonic() + SECONDS_TO_START
    while Path(f"/proc/{pid}/comm").read_text().strip() != "sleep" and time.monotonic() < deadline:
        time.sleep(0.001)
    anchor = Process(pid, start_time(pid) or 0)
    new = record.with_suffix(".new")
    new.write_text(f"{anchor.pid} {anchor.started}")
    new.replace(record)
    return anchor


def _become_anchor(directory: Path, writer: int) -> None:
    """Never returns."""
    try:
        os.setsid()
        uid, gid = os.geteuid(), os.getegid()
        try:
            _call("unshare", NEW_MOUNTS if uid == 0 else NEW_USER | NEW_MOUNTS | NEW_NETWORK)
        except OSError as error:
            what = "namespaces" if uid == 0 else "user namespaces (sysctls user.max_user_namespaces, AppArmor's userns)"
            raise OSError(f"this host allows no {what}: {error.strerror}") from error
        if uid != 0:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        _mount("none", "/", "", RECURSIVE | SLAVE)
        _mount("pileus", str(directory), "tmpfs", NO_SUID | NO_DEVICES | NO_EXECUTION, "mode=0700")
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.write(writer, f"ready {os.getpid()}".encode())
        os.closerange(3, 4096)
        os.execvp("sleep", ["pileus-network-anchor", "infinity"])
    except BaseException as error:
        os.write(writer, str(error).encode())
    os._exit(1)


def drop_privileges() -> None:
    """Keep only the capabilities that networks need, for this process and what it starts."""
    ambient_clear, bounding_drop, no_new_privileges = (47, 4, 0, 0, 0), 24, (38, 1, 0, 0, 0)
    _call("prctl", *ambient_clear)
    for number in range(64):
        if number not in CAPABILITIES.values() and _libc.prctl(bounding_drop, number, 0, 0, 0) != 0:
            break  # beyond the last that the kernel knows
    kept = sum(1 << number for number in CAPABILITIES.values())
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)
    _call("capset", header, data)
    _call("prctl", *no_new_privileges)
