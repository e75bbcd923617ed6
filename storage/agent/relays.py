"""The servers of images that run on this host (`storage.agent.nbd`): found, asked whether they get on, and ended.

A server ends with its connection, unless what it has in hand waits for a storage that does not answer. Then its
emulator waits too, with its guest and its monitor, as soon as it is to close the disk: QEMU flushes first. So such a
server is killed before a disk is taken from a guest, and after an emulator has ended.
"""

import contextlib
import json
import os
import signal
import socket
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import Refused

SECONDS_TO_END = 10.0
# The protocol of NBD: what a server begins with ("fixed newstyle"), and how a client says that it wants nothing.
GREETING = b"NBDMAGIC" + b"IHAVEOPT"
FAREWELL = struct.pack(">I8sII", 1, b"IHAVEOPT", 2, 0)
SECONDS_TO_ANSWER = 5.0


@dataclass(frozen=True)
class Relay:
    """`holder`: the machine that has the image open, or "" for work on it; `image`: a node of QEMU's."""

    pid: int
    holder: str
    image: dict[str, Any]

    @property
    def name(self) -> str:
        """Of the image in Ceph, or of the export of a storage host."""
        return str(self.image.get("image") or self.image.get("export") or "")

    def serves(self, layer: str) -> bool:
        """Whether this is what it serves: the name of a layer of a machine (`compute.agent.disks.layer_name`)."""
        found = layer.rpartition("-")[2]
        with contextlib.suppress(ValueError):
            return bool(found) and uuid.UUID(self.name.partition(".")[0]).hex.startswith(found)
        return False


def described(owner: Path, holder: str) -> str:
    """How the command line of a server says whose it is."""
    return f"--description={owner} {holder}".rstrip()


def find(owner: Path, holder: str | None = None) -> Iterator[Relay]:
    """Those of an agent, by its home; with a holder those of this one."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            words = (process / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
            if Path(words[0]).name != "qemu-nbd":
                continue
            whose = next((word for word in words if word.startswith(described(owner, ""))), None)
            if whose is None:
                continue
            found = whose.removeprefix(described(owner, "")).strip()
            if holder is None or found == holder:
                yield Relay(int(process.name), found, json.loads(words[-1].removeprefix("json:"))["file"])


def end_all(owner: Path, image: str) -> None:
    """End all servers of an image that this agent has started. Raises Refused when one does not end."""
    _end(lambda: [one for one in find(owner) if one.name == image])


def end_of(owner: Path, holder: str, *, but_for: frozenset[str] = frozenset()) -> None:
    """End the servers of a machine whose emulator has ended, or has let go of these images. Raises Refused."""
    _end(lambda: [one for one in find(owner, holder) if one.name not in but_for])


def cut_off(those: list[Relay]) -> None:
    """Kill servers whose storage does not answer: what their guest waits for fails."""
    _end(lambda: [one for one in those if _is_alive(one.pid)], patience=0.0)


def _end(left: Callable[[], list[Relay]], patience: float = SECONDS_TO_END) -> None:
    deadline = time.monotonic() + patience
    while found := left():
        late = time.monotonic() >= deadline
        for one in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL if late else signal.SIGTERM)
        if time.monotonic() > deadline + SECONDS_TO_END:
            raise Refused(f"a server of an image does not end (process {found[0].pid})")
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # a zombie has none
    return False


def is_answered(host: str, port: int) -> bool:
    """Whether a server of NBD answers there, within some seconds: what serves a volume is started anew for some
    changes. That a connection is taken does not say so: the kernel takes it for a program that stands still."""
    deadline = time.monotonic() + SECONDS_TO_ANSWER
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=left) as connection:
            connection.settimeout(left)
            if _receive(connection, len(GREETING) + 2).startswith(GREETING):
                connection.sendall(FAREWELL)
                return True
        time.sleep(0.2)
    return False


def _receive(connection: socket.socket, size: int) -> bytes:
    """Less at the end of the connection. Raises OSError, TimeoutError too."""
    found = b""
    while len(found) < size and (more := connection.recv(size - len(found))):
        found += more
    return found
