"""One computer of the embedded emulator for a test: its process, its control socket, its console."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from compute.agent import host_keys, nocloud
from compute.agent.host_keys import HostKey
from compute.agent.nics import OWN_NETWORK_ADDRESS, Nic
from storage.agent import qcow2

BOARD = Path(__file__).parents[4] / "compute/agent/hypervisors/unicorn/board"
BOOT_SECONDS = 120  # generous: the machine that tests run on is shared


class Refusal(Exception):
    """What the emulator answered instead of doing it."""


class Guest:
    """A process of the emulator, in `home`. `describe` what it is made of, then `start` it."""

    def __init__(self, home: Path, **description: Any) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.description: dict[str, Any] = {
            "memory_mib": 64,
            "control": str(home / "c"),
            "serial": str(home / "s"),
            "console_log": str(home / "console.log"),
            **description,
        }
        self.host_key: HostKey | None = None  # that its seed says
        self.process: subprocess.Popen[bytes] | None = None
        self._serial: socket.socket | None = None

    @classmethod
    def of_image(
        cls,
        image: Path,
        home: Path,
        *,
        hostname: str = "guest-1",
        user_data: str = "",
        nics: Sequence[Nic] = (Nic("52:54:00:00:00:01", OWN_NETWORK_ADDRESS),),
        **more: Any,
    ) -> "Guest":
        """A guest booted from an image of images/, with an overlay and a seed of its own."""
        home.mkdir(parents=True, exist_ok=True)
        described = json.loads((image / "image.json").read_text())
        files = {file["role"]: image / file["file"] for file in described["files"]}
        disk = next(file for file in described["files"] if file["role"] == "disk")
        base = {"path": str(files["disk"]), "format": disk["format"]}
        if not (home / "disk.qcow2").exists():
            qcow2.write(home / "disk.qcow2", 1 << 30, files["disk"], disk["format"])
        host_key = cls.write_seed(home, hostname, user_data, nics)
        description: dict[str, Any] = {
            "memory_mib": 128,
            "kernel": str(files["kernel"]),
            "initrds": [str(files["initrd"])],
            "command_line": described["kernel_command_line"],
            "disks": [
                {"path": str(home / "disk.qcow2"), "format": "qcow2", "base": base, "serial": "root"},
                {"path": str(home / "seed.iso"), "format": "raw", "read_only": True, "serial": "cidata"},
            ],
            "nics": cls.isolated(nics, hostname),
        }
        guest = cls(home, **(description | more))
        guest.host_key = host_key
        return guest

    @staticmethod
    def write_seed(home: Path, hostname: str, user_data: str, nics: Sequence[Nic]) -> HostKey:
        """The NoCloud volume, as the product makes it; the host key in it."""
        host_key = host_keys.make()
        seed = {"instance_id": f"iid-{hostname}", "hostname": hostname, "user_data": user_data}
        (home / "seed.iso").write_bytes(nocloud.iso(nocloud.files(seed, nics, host_key)))
        return host_key

    @staticmethod
    def isolated(nics: Sequence[Nic], hostname: str) -> list[dict[str, str]]:
        """The NICs for the description, each in a network of its own."""
        return [{"mac": nic.mac, "network": "isolated", "hostname": hostname} for nic in nics]

    def start(self, *, descriptors: tuple[int, ...] = ()) -> "Guest":
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(BOARD), json.dumps(self.description)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=descriptors,
        )
        self._serial = self._connect(self.home / "s")
        self._connect(self.home / "c").close()  # it is made last
        return self

    def _connect(self, path: Path) -> socket.socket:
        deadline = time.monotonic() + 20
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(path))
                return connection
            except OSError:
                connection.close()
                assert self.process is not None
                if self.process.poll() is not None:
                    raise AssertionError(f"the emulator ended: {self.output()}") from None
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)

    def output(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout.read().decode(errors="replace")

    # Control

    def __call__(self, verb: str, **arguments: Any) -> Any:
        with self._connect(self.home / "c") as connection, connection.makefile("rw") as stream:
            connection.settimeout(60)
            stream.write(json.dumps({"execute": verb, "arguments": arguments}) + "\n")
            stream.flush()
            answer = json.loads(stream.readline())
        if "error" in answer:
            raise Refusal(f"{answer['error']['code']}: {answer['error']['message']}")
        return answer["return"]

    def wait_for_power(self, power: str, seconds: float = 30) -> float:
        started = time.monotonic()
        while self("status")["power"] != power:
            assert time.monotonic() < started + seconds, f"{self('status')}; console:\n{self.text}"
            time.sleep(0.01)
        return time.monotonic() - started

    # Console

    @property
    def console(self) -> bytes:
        """All that the guest has said, by the log."""
        return (self.home / "console.log").read_bytes()

    @property
    def text(self) -> str:
        return self.console.decode(errors="replace").replace("\r\n", "\n")

    def wait_for(self, text: str, seconds: float = BOOT_SECONDS, *, after: int = 0) -> str:
        """Wait until `text` and the rest of its line are on the console (from position `after` on); that line."""
        wanted, deadline = text.encode(), time.monotonic() + seconds
        while True:
            console = self.console
            place = console.find(wanted, after)
            if place >= 0 and (end := console.find(b"\n", place)) >= 0:
                return console[place:end].decode(errors="replace").strip()
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"ended before {text!r}: {self.output()}; console:\n{self.text}")
            if time.monotonic() > deadline:
                raise AssertionError(f"no {text!r} within {seconds} s; console:\n{self.text}")
            time.sleep(0.003)

    def type_keys(self, keys: str) -> None:
        assert self._serial is not None
        self._serial.sendall(keys.encode())

    def type(self, text: str, expect: str, seconds: float = 60) -> str:
        """Type a line; the line with `expect` that comes after it."""
        after = len(self.console)
        self.type_keys(text + "\n")
        return self.wait_for(expect, seconds, after=after)

    def cpu_seconds(self) -> float:
        """What the process has used of a processor so far."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def quit(self) -> int:
        """End politely; the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self("quit")
        return self.process.wait(20)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def close(self) -> None:
        """Nothing stays: neither process nor disk."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        if self._serial is not None:
            self._serial.close()
        shutil.rmtree(self.home, ignore_errors=True)


def on_one_wire(make: Callable[..., Guest]) -> list[Guest]:
    """Two guests at the ends of one wire, up: guest-1 at 10.0.0.1 and guest-2 at 10.0.0.2.

    `make(hostname=…, nics=…)` describes one that is not started.
    """
    guests = []
    for number, end in enumerate(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM), 1):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        nic = Nic(f"52:54:00:00:00:0{number}", f"10.0.0.{number}/24")
        guest = make(hostname=f"guest-{number}", nics=[nic])
        guest.description["nics"] = [{"mac": nic.mac, "network": "descriptor", "descriptor": end.fileno()}]
        guests.append(guest.start(descriptors=(end.fileno(),)))
        end.close()
    for number, guest in enumerate(guests, 1):
        guest.wait_for(f"READY guest-{number}")
    return guests
