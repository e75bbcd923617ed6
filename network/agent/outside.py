"""The host's own network, seen from a process that has left it.

Root keeps one foot in it. An ordinary user cannot come back once inside the user namespace, so a child stays outside
and makes what is asked for: sockets, which it hands over, and the program that leads out of the namespace.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
MAX_REQUEST = 4096
WAY_OUT_DEVICE = "pileus-out"


class Outside:
    """Sockets in the host's own network namespace."""

    def __init__(self, pid_file: Path) -> None:
        """To be made before namespaces are entered and threads started. `pid_file`: of the program that leads out."""
        self._pid_file = pid_file
        self._child: socket.socket | None = None
        if os.geteuid() != 0:
            self._child, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            parent = os.getpid()
            if os.fork() == 0:
                self._child.close()
                with contextlib.suppress(BaseException):
                    _stay(theirs, parent)
                os._exit(0)
            theirs.close()

    def listen(self, protocol: str, address: str, port: int) -> socket.socket:
        """A socket that takes connections ("tcp") or datagrams ("udp"). Raises OSError."""
        if self._child is None:
            return _listen(protocol, address, port)
        answer, descriptor = self._ask({"protocol": protocol, "address": address, "port": port})
        if descriptor is None:
            raise OSError(answer["number"], answer["problem"])
        return socket.socket(fileno=descriptor)

    def lead_out(self, anchor: int) -> str:
        """Connect an ordinary user's outermost namespace with the host's network; "" or what is missing."""
        if self._child is None:
            return ""
        return str(self._ask({"lead_out": anchor, "pid_file": str(self._pid_file)})[0].get("problem", ""))

    def _ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], int | None]:
        assert self._child is not None
        self._child.send(json.dumps(request).encode())
        answer, descriptors, _, _ = socket.recv_fds(self._child, MAX_REQUEST, 1)
        return json.loads(answer or b'{"number": 32, "problem": "the helper outside has ended"}'), next(
            iter(descriptors), None
        )


def _listen(protocol: str, address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if protocol == "tcp":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        if protocol == "tcp":
            made.listen(128)
    except OSError:
        made.close()
        raise
    return made


def _stay(parent: socket.socket, pid: int) -> None:
    """What the child does until its parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while os.getppid() == pid and (data := parent.recv(MAX_REQUEST)):
        request = json.loads(data)
        if "lead_out" in request:
            parent.send(json.dumps({"problem": _lead_out(request["lead_out"], request["pid_file"])}).encode())
            continue
        try:
            with _listen(**request) as made:
                socket.send_fds(parent, [b"{}"], [made.fileno()])
        except OSError as error:
            parent.send(json.dumps({"number": error.errno, "problem": error.strerror}).encode())


def close_way_out(pid_file: Path) -> None:
    """End the program that leads out of a namespace: it would keep the namespace for as long as it lives."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        if Path(f"/proc/{pid}/comm").read_text().startswith(("pasta", "passt")):
            os.kill(pid, signal.SIGKILL)
        pid_file.unlink()


def _lead_out(anchor: int, pid_file: str) -> str:
    """Start pasta, which outlives this process. Nothing of the host's own loopback is to be reached through it."""
    if not (program := shutil.which("pasta")):
        return "guests have no way out: pasta is not installed (Debian: sudo apt install passt)"
    command = [program, "--config-net", "--ns-ifname", WAY_OUT_DEVICE, "--no-map-gw", "--quiet", "--pid", pid_file]
    command += [option for kind in "tuTU" for option in (f"-{kind}", "none")] + [str(anchor)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return "guests have no way out: pasta did not start within 10 seconds"
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        return f"guests have no way out: pasta: {words[-1]}"
    return ""
