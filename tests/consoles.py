"""What consoles are tested with: an emulator's sockets without the emulator, and a node service of one's own."""

import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.membership import Membership
from agent.paths import Paths
from compute.agent.homes import Home
from tests.servers import TREE


class StandInSockets:
    """On a machine's sockets: a serial port that echoes in capitals, and a screen that echoes."""

    def __init__(self, home: Home, *, speaks_rfb: bool = False) -> None:
        self.home = home
        self.typed = bytearray()
        self.keys: list[tuple[int, bool]] = []  # keysym, and whether it went down
        self.places: list[tuple[int, bool]] = []  # scan code, and whether it went down: once it is asked for
        self.asks_for_places = False
        self._serial: socket.socket | None = None
        home.runtime.mkdir(parents=True, exist_ok=True)
        home.control_socket.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as control:
            control.bind(os.fspath(home.control_socket))
        home.console_log.touch()
        self._listening = [
            self._listen(home.serial_socket, self._serve_serial),
            self._listen(home.vnc_socket, self._serve_rfb if speaks_rfb else self._serve_screen),
        ]

    def say(self, content: bytes) -> None:
        """As QEMU does: to whoever is connected, waiting until it is taken, and to the log."""
        if self._serial is not None:
            with contextlib.suppress(OSError):
                self._serial.sendall(content)
        with self.home.console_log.open("ab") as log:
            log.write(content)

    def close(self) -> None:
        while self._listening:
            with self._listening.pop() as listening:
                listening.shutdown(socket.SHUT_RDWR)
        if self._serial is not None:
            with contextlib.suppress(OSError):
                self._serial.shutdown(socket.SHUT_RDWR)

    def _listen(self, path: Path, serve) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        listening.bind(os.fspath(path))
        listening.listen(8)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return listening

    def _serve_serial(self, connection: socket.socket) -> None:
        self._serial = connection
        with contextlib.suppress(OSError), connection:
            while content := connection.recv(4096):
                self.typed += content
                self.say(content.upper())

    def _serve_screen(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.sendall(b"RFB 003.008\n")
            while content := connection.recv(4096):
                connection.sendall(content)

    def _serve_rfb(self, connection: socket.socket) -> None:
        """A grey screen and a keyboard: RFC 6143, as much of it as noVNC asks for."""
        width, height = 64, 48
        with contextlib.suppress(OSError, EOFError), connection, connection.makefile("rb") as heard:

            def take(count: int) -> bytes:
                if len(content := heard.read(count)) < count:
                    raise EOFError
                return content

            connection.sendall(b"RFB 003.008\n")
            take(12)
            connection.sendall(b"\x01\x01")  # no authentication
            take(1)
            connection.sendall(bytes(4))
            take(1)
            pixels = struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
            connection.sendall(struct.pack(">HH", width, height) + pixels + struct.pack(">I", 4) + b"test")
            while True:
                match take(1)[0]:
                    case 0:
                        take(19)
                    case 2:
                        take(4 * struct.unpack(">xH", take(3))[0])
                    case 3:
                        incremental = take(9)[0]
                        if not incremental:
                            places = struct.pack(">HHHHi", 0, 0, 0, 0, -258) if self.asks_for_places else b""
                            head = struct.pack(">BxH", 0, 1 + bool(places)) + places
                            head += struct.pack(">HHHHi", 0, 0, width, height, 0)
                            connection.sendall(head + b"\x80" * (4 * width * height))
                    case 4:
                        down, keysym = struct.unpack(">BxxI", take(7))
                        self.keys.append((keysym, bool(down)))
                    case 5:
                        take(5)
                    case 6:
                        take(struct.unpack(">3xI", take(7))[0])
                    case 255:
                        down, code = struct.unpack(">xH4xI", take(11))
                        self.places.append((code, bool(down)))
                    case unknown:
                        raise EOFError(unknown)


def join(paths: Paths, url: str, token: str) -> None:
    """What the worker of a host leaves behind when it joins."""
    Membership(url, "", "node", token, "", "", "").write(paths.membership)


@contextmanager
def node_service(paths: Paths, url: str, token: str, *, joined: bool = True) -> Iterator[subprocess.Popen]:
    """`pileus-agent node` for the host whose home this is."""
    if joined:
        join(paths, url, token)
    environment = {**os.environ, "PILEUS_RUNTIME_DIR": str(paths.runtime), "PYTHONPATH": str(TREE)}
    command = [sys.executable, "-m", "agent.cli", "node", "--home", str(paths.home)]
    process = subprocess.Popen(command, env=environment, cwd=TREE)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)
