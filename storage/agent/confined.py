"""Programs that read what strangers made: each runs confined, and dies with the worker that wants it.

It has a user of its own, no privileges, limits, no network unless it is there for it, and where the host lets us make
mounts it sees nothing but programs and the files that it is given.
"""

import contextlib
import fcntl
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import structlog

from agent import jail
from agent.errors import Refused
from agent.jail import Jail
from agent.paths import Paths, make_passable
from agent.work import Work

log = structlog.get_logger()

HELPERS = 4  # at once on a host
FETCHING = 2  # of them, at most, wait for servers that tenants name: those may be slow for hours
SERVER = 63  # the number of the server of the image cache among the users of confined programs
USERS = 64  # of these; from there on those of what a storage host serves have numbers
MAX_OUTPUT = 1 << 20
MAX_PROCESSES = 128
TREE = Path(__file__).resolve().parents[2]
LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
FOR_THE_NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/ca-certificates")

# Makes a root of its own in $1 and runs a command in it. Before the command and after “--”: how and what is seen.
ROOT = """
set -e
root=$1; shift
mount -t tmpfs -o size=1m,mode=755,nosuid,nodev none "$root"
while [ "$1" != -- ]; do
    how=$1; path=$2; shift 2
    if [ -d "$path" ]; then mkdir -p "$root$path"; else mkdir -p "$(dirname "$root$path")"; : > "$root$path"; fi
    mount --bind "$path" "$root$path"
    mount -o "remount,bind,nosuid,$how" "$root$path"
done
shift
while [ "$1" != -- ]; do cp -P "$1" "$root$1"; shift; done
shift
mount -o remount,ro,nosuid,nodev "$root"
exec chroot "$root" "$@"
"""


class TooLong(Refused):
    """The program did not end in time."""


class Failed(Refused):
    """The program ended with an error. Its words are not for tenants."""


@dataclass(frozen=True)
class Bounds:
    """What one program may use: seconds, bytes of address space, and bytes of the largest file that it writes."""

    seconds: float
    memory_bytes: int = 2 << 30
    file_bytes: int = 1 << 20


@dataclass(frozen=True)
class View:
    """What a program sees of the host beside /usr: files and folders to read, and folders to write in."""

    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    network: bool = False


@dataclass(frozen=True)
class Program:
    """A command line and what is around it. `descriptors`: open files and connections that it inherits."""

    argv: Sequence[str]
    bounds: Bounds
    view: View = View()
    descriptors: tuple[int, ...] = ()


def command(program: Program, jail_: Jail, uid: int | None, root: Path | None) -> list[str]:
    """The command line that confines a program. `root`: an empty folder to make its root in; None: it sees all.

    A pure function, but for the links and folders that this host has.
    """
    bounds, view = program.bounds, program.view
    # Twice: a change of user clears the first one's wish to die with its parent.
    with_parent = ["setpriv", "--pdeathsig", "KILL"]
    confined = [*with_parent, "--"]
    if jail_.namespaces:
        spaces = ["--ipc", "--uts", "--pid", *([] if view.network else ["--net"]), *(["--mount"] if root else [])]
        confined += ["unshare", *spaces, "--fork", "--kill-child=KILL", "--"]
    if root:
        shown = [Path("/usr"), *(Path(link) for link in LINKS if Path(link).is_dir() and not Path(link).is_symlink())]
        shown += [path for path in view.readable if path.exists() and not path.is_relative_to("/usr")]
        mounts = [word for path in shown for word in ("ro,nodev", os.fspath(path))]
        mounts += [word for path in view.writable for word in ("rw,nodev", os.fspath(path))]
        links = [link for link in LINKS if Path(link).is_symlink()]
        confined += ["sh", "-c", ROOT, "sh", os.fspath(root), *mounts, "ro", "/dev/null", "--", *links, "--"]
    limits = [
        f"--as={bounds.memory_bytes}",
        f"--fsize={bounds.file_bytes}",
        f"--cpu={int(bounds.seconds) + 2}",
        "--core=0",
    ]
    confined += ["prlimit", *limits, *([f"--nproc={MAX_PROCESSES}"] if uid is not None else []), "--"]
    confined += [*with_parent, "--no-new-privs"]
    if jail_.capabilities:
        confined += ["--bounding-set=-all", "--inh-caps=-all"]
    if uid is not None:
        confined += [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return [*confined, "--", *program.argv]


def python(module: str, *arguments: str) -> list[str]:
    """The command line of a module of ours, as a program of its own."""
    return [sys.executable, "-I", "-m", module, *arguments]


@cache
def own_python() -> tuple[Path, ...]:
    """What `python` needs to see: the interpreter, its packages, and those of ours that run on hosts."""
    return tuple({Path(sys.prefix), Path(sys.base_prefix), TREE / "agent", TREE / "storage"})


class Helpers:
    """Runs confined programs on this host."""

    def __init__(self, paths: Paths, jail_: Jail) -> None:
        self._jail = jail_
        self._locks = paths.locks
        self._root = paths.home / "empty"
        make_passable(self._root)

    @contextlib.contextmanager
    def turn(self, work: Work, places: int = HELPERS) -> Iterator[int | None]:
        """Wait for a free one of the first `places` among the running programs, and take an unused uid; None: our own.
        Raises Abandoned."""
        while True:
            for number in reversed(range(places)):  # others may take the first ones only
                lock = os.open(self._locks / f"helper-{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    yield jail.first_uid() + jail.UIDS + number if self._jail.uid else None
                    return
                except BlockingIOError:
                    continue
                finally:
                    os.close(lock)
            work.sleep(0.2)

    def describe(self) -> dict[str, bool]:
        """Which layers there are, for the host's capabilities."""
        return {
            "uid": self._jail.uid,
            "network": self._jail.namespaces,
            "mounts": self._can_mount,
        }

    @property
    def uid_of_server(self) -> int | None:
        """The user of the one program that runs all the time; None: our own."""
        return jail.first_uid() + jail.UIDS + SERVER if self._jail.uid else None

    def command(self, program: Program, uid: int | None) -> list[str]:
        """The command line that confines a program as well as this host can."""
        return command(program, self._jail, uid, self._root if self._can_mount else None)

    def run(self, program: Program, uid: int | None, work: Work, hear: Callable[[str], None] = lambda _: None) -> str:
        """Run a program and give back what it printed, of which `hear` gets every line when it comes.

        Raises TooLong, Failed or Abandoned, and whatever `hear` raises: then the program has ended too.
        """
        process = subprocess.Popen(  # noqa: S603
            self.command(program, uid),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=program.descriptors,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
        with process:
            try:
                printed, errors = _listen(process, time.monotonic() + program.bounds.seconds, work, hear)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
        if process.returncode != 0:
            words = errors.decode(errors="replace").strip()[-500:]
            log.warning("a confined program failed", program=program.argv[0], status=process.returncode, words=words)
            raise Failed(words or f"{Path(program.argv[0]).name} ended with status {process.returncode}")
        return printed.decode(errors="replace")

    @cached_property
    def _can_mount(self) -> bool:
        """Whether programs can have a root of their own here: found out by making one."""
        if not (self._jail.namespaces and self._jail.uid):
            return False
        probe = command(Program(["true"], Bounds(10)), self._jail, jail.first_uid() + jail.UIDS, self._root)
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            return subprocess.run(probe, check=False, capture_output=True, timeout=10).returncode == 0  # noqa: S603
        return False


def _listen(
    process: "subprocess.Popen[bytes]", deadline: float, work: Work, hear: Callable[[str], None]
) -> tuple[bytes, bytes]:
    """Read what a program prints until it ends."""
    assert process.stdout
    assert process.stderr
    printed, errors, line = bytearray(), bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        while selector.get_map():
            work.check()
            if time.monotonic() > deadline:
                raise TooLong("it took too long")
            for key, _ in selector.select(0.2):
                piece = os.read(key.fd, 1 << 16)
                if not piece:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    errors = (errors + piece)[-MAX_OUTPUT:]
                else:
                    printed = (printed + piece)[-MAX_OUTPUT:]
                    line += piece
                    *whole, line = line.replace(b"\r", b"\n")[-MAX_OUTPUT:].split(b"\n")
                    for one in whole:
                        hear(one.decode(errors="replace"))
    process.wait()
    return bytes(printed), bytes(errors)
