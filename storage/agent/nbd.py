"""Serves one image to one emulator, over a connection that is there before the emulator.

An emulator has no network and no key: what its guest takes over reaches this one image, and nothing else of the
cluster or of the storage host. The server is QEMU's own (qemu-nbd). It has a user of its own (`nbd_places`), gets key
and configuration as open files, and ends with its connection: when the emulator lets go of the disk, ends or is killed.
Those that do not, see `storage.agent.relays`.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from agent import folders
from agent.errors import Refused
from agent.jail import Confinement, Jail, prefix
from storage.agent import nbd_places
from storage.agent.nbd_places import FIRST_DESCRIPTOR
from storage.agent.relays import described

SECONDS_TO_OPEN = 30.0
SECONDS_TO_RECONNECT = 86_400  # then a guest gets errors
USER, KEY_FILE = "pileus", "keys.psk"  # of a key that both ends know; QEMU looks for this name
GREETING = b"NBDMAGIC"
MAX_WORDS = 1 << 20
# An emulator whose connection has broken takes the descriptor with the number that it was told at its start for a new
# one, and closes it: so nothing else of it may ever get that number (QEMU 7.2, block/nbd.c).
FIRST_OF_CONNECTIONS = 512

# Its standard input is the socket that it listens on, which is to be number 3 (sd_listen_fds(3)). What it says is cut
# off at 1 MiB. It is no child of the worker, which would have to wait for its end.
SCRIPT = """
exec 3<&0 </dev/null >/dev/null
trap '' XFSZ
ulimit -c 0
ulimit -f 2048
LISTEN_FDS=1
export LISTEN_FDS
sh -c 'LISTEN_PID=$$; export LISTEN_PID; exec "$@"' sh "$@" &
"""


class Opened(NamedTuple):
    """What a server is told of an image: a node of QEMU, `--object`s, and the open files that these name."""

    node: dict[str, Any]
    objects: tuple[str, ...]
    descriptors: tuple[int, ...] = ()


class Source(Protocol):
    """Where an image is."""

    def opened(self, folder: Path, uid: int | None) -> AbstractContextManager[Opened]:
        """Until the server has opened it. `folder`: to put files in; `uid`: the server's user, if it has one of its
        own. Raises OSError."""

    def in_words(self, said: str, error: OSError) -> str:
        """Why a server could not open it. `said`: by the server."""


@dataclass(frozen=True)
class InCeph:
    """`image`: a node of QEMU's driver `rbd`; `conf`: the content of ceph.conf; `key`: the user's, in base64."""

    image: dict[str, Any]
    conf: bytes
    key: bytes

    @contextlib.contextmanager
    def opened(self, folder: Path, uid: int | None) -> Iterator[Opened]:
        with _memory("conf", self.conf) as conf, _memory("key", self.key) as key:
            node = {**self.image, "conf": f"/proc/self/fd/{conf}", "key-secret": "key"}
            yield Opened(node, (f"secret,id=key,format=base64,file=/proc/self/fd/{key}",), (conf, key))

    def in_words(self, said: str, error: OSError) -> str:
        if isinstance(error, TimeoutError):
            return f"the Ceph cluster did not open an image within {SECONDS_TO_OPEN:.0f} s"
        if "Unknown driver" in said:
            return "QEMU has no driver for Ceph on this host: install qemu-block-extra"
        return f"an image in Ceph could not be opened: {_last_line(said, error)}"


@dataclass(frozen=True)
class OnStorageHost:
    """A volume that a storage host serves there (`storage.agent.serving`), under the name of its attachment.

    When the connection breaks, its guest waits until it is there again: what has been written is on the storage host's
    disk, so what is asked a second time does no harm.
    """

    host: str
    port: int
    name: str
    key: str = field(repr=False)

    @contextlib.contextmanager
    def opened(self, folder: Path, uid: int | None) -> Iterator[Opened]:
        server = {"type": "inet", "host": self.host, "port": str(self.port)}
        more = {"export": self.name, "tls-creds": "tls", "reconnect-delay": SECONDS_TO_RECONNECT}
        keys = folder / "keys"
        folders.make_folder(keys, 0o700)
        write_key(keys, self.key, uid)
        yield Opened({"driver": "nbd", "server": server, **more}, (creds("client", keys),))

    def in_words(self, said: str, error: OSError) -> str:
        where = f"the storage host at {self.host}, port {self.port},"
        if isinstance(error, TimeoutError):
            return f"{where} did not open a volume within {SECONDS_TO_OPEN:.0f} s"
        return f"{where} could not be reached, or serves the volume to somebody else: {_last_line(said, error)}"


def creds(endpoint: str, folder: Path) -> str:
    """An object of QEMU: a key that both ends of a connection know. `endpoint`: "client" or "server"."""
    user = f",username={USER}" if endpoint == "client" else ""
    return f"tls-creds-psk,id=tls,endpoint={endpoint}{user},dir={folder}"


def write_key(folder: Path, key: str, uid: int | None) -> None:
    """Write a key (in hexadecimal) where `creds` has it looked for: one user may read it, and write nothing there.
    Raises OSError."""
    with folders.create_file(folder / KEY_FILE) as file:
        file.write(f"{USER}:{key}\n".encode())
        os.fchmod(file.fileno(), 0o440)
        if uid is not None:
            os.fchown(file.fileno(), -1, uid)
    folders.make_folder(folder, 0o710, gid=uid)


@dataclass(frozen=True)
class Server:
    """`owner`: the home of the agent that starts it; `holder`: the machine that it is for, or "" for work."""

    owner: Path
    source: Source
    holder: str = ""

    def command(self, image: Opened, *, read_only: bool) -> list[str]:
        """A pure function."""
        return [
            *("qemu-nbd", "--shared=1", "--cache=none", "--discard=unmap", *(["--read-only"] if read_only else [])),
            described(self.owner, self.holder),
            *(word for one in image.objects for word in ("--object", one)),
            "json:" + json.dumps({"driver": "raw", "file": image.node}),
        ]

    def start(self, jail_: Jail, *, read_only: bool, check: Callable[[], None] = lambda: None) -> int:
        """The descriptor of a connection whose server has opened the image. Raises Refused. `check` is called then; the
        server is ended when that raises something."""
        client = socket.socket(socket.AF_UNIX)
        try:
            with ExitStack() as stack:
                place = stack.enter_context(nbd_places.taken(self.owner))
                uid = place.uid if jail_.uid else None
                confinement = prefix(Confinement(uid=uid, drop_capabilities=jail_.capabilities))
                image = stack.enter_context(self.source.opened(place.folder, uid))
                words = stack.enter_context(tempfile.TemporaryFile())
                command = [*confinement, *self.command(image, read_only=read_only)]
                with _listening(client, place.folder) as listening:
                    starting = subprocess.Popen(  # noqa: S603
                        ["sh", "-c", SCRIPT, "sh", *command],
                        stdin=listening.fileno(),
                        stderr=words,
                        pass_fds=(*image.descriptors, place.lock),
                        cwd="/",
                        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
                        start_new_session=True,  # it outlives the worker, as its emulator does
                    )
                    starting.wait()
                try:
                    _await_greeting(client)
                except OSError as error:
                    _kill(starting.pid)
                    words.seek(0)
                    said = words.read(MAX_WORDS).decode(errors="replace").strip()
                    raise Refused(self.source.in_words(said, error)) from error
                try:
                    check()
                except BaseException:
                    _kill(starting.pid)
                    raise
            return fcntl.fcntl(client.fileno(), fcntl.F_DUPFD_CLOEXEC, FIRST_OF_CONNECTIONS)
        except OSError as error:
            raise Refused(f"a server for an image could not be started: {error}") from error
        finally:
            client.close()


def _kill(session: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)


def _await_greeting(client: socket.socket) -> None:
    """Until the server has opened its image. An emulator would wait without an end, and do nothing else."""
    client.settimeout(SECONDS_TO_OPEN)
    if client.recv(len(GREETING), socket.MSG_PEEK) != GREETING:
        raise ConnectionResetError("it ended")
    client.settimeout(None)


def _last_line(said: str, error: OSError) -> str:
    return said.splitlines()[-1][-300:] if said else str(error)


@contextlib.contextmanager
def _listening(client: socket.socket, folder: Path) -> Iterator[socket.socket]:
    """A socket to which the client has connected, and nobody else can: its folder is ours, and it goes at once."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            path = f"/proc/self/fd/{directory}/listening"  # a socket's path is short
            listening.bind(path)
            listening.listen(1)
            client.connect(path)
            os.unlink("listening", dir_fd=directory)
            yield listening
    finally:
        os.close(directory)


@contextlib.contextmanager
def _memory(name: str, content: bytes) -> Iterator[int]:
    """The descriptor of a file that is on no disk."""
    made = os.memfd_create(name)
    try:
        os.write(made, content)
        descriptor = fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR)
    finally:
        os.close(made)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
