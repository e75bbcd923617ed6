"""One QEMU under emulation for a test: boots an image with a seed, reads its console, types on it, stops it."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from compute.agent import host_keys, nocloud
from compute.agent.nics import Nic

BOOT_SECONDS = 90  # generous: the machine that tests run on is shared


class Machine:
    """A guest with its own overlay disk; `boot` may be called again after it has ended."""

    def __init__(
        self, image: Path, home: Path, *, disk_gib: int = 2, memory_mib: int = 256, nic: str | None = "restrict=on"
    ) -> None:
        self.image, self.home, self.memory_mib, self.nic = image, home, memory_mib, nic
        self.description = json.loads((image / "image.json").read_text())
        self.files = {file["role"]: image / file["file"] for file in self.description["files"]}
        self.host_key = host_keys.make()
        self.console = b""
        self.process: subprocess.Popen[bytes] | None = None
        home.mkdir(parents=True, exist_ok=True)
        if "disk" in self.files:
            backing = next(file["format"] for file in self.description["files"] if file["role"] == "disk")
            command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(self.files["disk"]), "-F", backing]
            subprocess.run([*command, str(home / "disk.qcow2"), f"{disk_gib}G"], check=True)

    def seed(
        self,
        *,
        instance_id: str = "iid-1",
        hostname: str = "guest-1",
        user_data: str | bytes = "",
        keys: tuple[str, ...] = (),
        nics: tuple[Nic, ...] = (),
        password_reset: dict[str, str] | None = None,
    ) -> None:
        """Write the NoCloud volume as the product does."""
        text = user_data if isinstance(user_data, str) else ""
        seed = {
            "instance_id": instance_id,
            "hostname": hostname,
            "ssh_authorized_keys": list(keys),
            "user_data": text,
            "password_reset": password_reset,
        }
        contents = nocloud.files(seed, nics, self.host_key)
        if isinstance(user_data, bytes):
            contents["user-data"] = user_data
        (self.home / "seed.iso").write_bytes(nocloud.iso(contents))

    def command_line(self) -> list[str]:
        line = [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", f"{self.memory_mib}M"),
            *("-kernel", str(self.files["kernel"]), "-initrd", str(self.files["initrd"])),
            *("-append", self.description["kernel_command_line"]),
            *("-chardev", f"socket,id=serial,path={self.home}/s,server=on,wait=on", "-serial", "chardev:serial"),
            *("-qmp", f"unix:{self.home}/q,server=on,wait=off"),
            *("-object", "rng-random,id=entropy,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=entropy"),
        ]
        if "disk" in self.files:
            line += ["-blockdev", f"driver=qcow2,node-name=vda,file.driver=file,file.filename={self.home}/disk.qcow2"]
            line += ["-device", "virtio-blk-pci,drive=vda"]
        if (self.home / "seed.iso").exists():
            line += [
                "-blockdev",
                f"driver=raw,node-name=seed,read-only=on,file.driver=file,file.filename={self.home}/seed.iso",
            ]
            line += ["-device", "virtio-scsi-pci,id=scsi", "-device", "scsi-cd,drive=seed,bus=scsi.0"]
        if self.nic is not None:
            line += [
                "-netdev",
                ",".join(filter(None, ["user,id=nic0", self.nic])),
                "-device",
                "virtio-net-pci,netdev=nic0,romfile=",
            ]
        return line

    def boot(self, *, until: str = "READY ", seconds: float = BOOT_SECONDS) -> float:
        """Start and wait for a line on the console; seconds from exec until it was read."""
        self.console = b""
        started = time.monotonic()
        self.process = subprocess.Popen(self.command_line(), stderr=subprocess.PIPE)
        self._serial = self._connect(self.home / "s")
        self.wait_for(until, seconds)
        return time.monotonic() - started

    def wait_for(self, text: str, seconds: float = 30, *, after: int = 0) -> None:
        """Read the console until the text has come (searched from position `after` on)."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.console[after:] or (text == "READY " and not self._ready_line_is_whole()):
            self._serial.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                read = self._serial.recv(65536)
            except TimeoutError:
                raise AssertionError(f"no {text!r} within {seconds} s; console:\n{self.text}") from None
            if not read:
                raise AssertionError(f"the machine ended before {text!r}; console:\n{self.text}")
            self.console += read

    def _ready_line_is_whole(self) -> bool:
        return b"\n" in self.console[self.console.index(b"READY ") :]

    @property
    def text(self) -> str:
        return self.console.decode(errors="replace").replace("\r\n", "\n")

    def lines(self) -> list[str]:
        return [line.strip() for line in self.text.splitlines()]

    def type(self, text: str, expect: str, seconds: float = 30) -> None:
        """Type on the console and wait for what comes after it."""
        after = len(self.console)
        self._serial.sendall(text.encode() + b"\n")
        self.wait_for(expect, seconds, after=after)

    def qmp(self, command: str, **arguments: Any) -> None:
        """One QMP command on a connection of its own."""
        with contextlib.closing(self._connect(self.home / "q")) as connection, connection.makefile("rw") as stream:
            stream.readline()
            for order in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                stream.write(json.dumps(order) + "\n")
                stream.flush()
                while "event" in (answer := json.loads(stream.readline())):
                    pass
                assert "return" in answer, answer

    def wait_until_ended(self, seconds: float = 30) -> float:
        """Read the console to its end and wait for the process; seconds it took."""
        assert self.process is not None
        started = time.monotonic()
        with contextlib.suppress(AssertionError):
            self.wait_for("\0never\0", seconds)
        assert self.process.wait(timeout=seconds) == 0, self.process.stderr
        return time.monotonic() - started

    def power_off(self) -> float:
        """Press the power button; seconds until the process has ended."""
        started = time.monotonic()
        self.qmp("system_powerdown")
        self.wait_until_ended()
        return time.monotonic() - started

    def close(self) -> None:
        """Nothing stays: neither process nor disk."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

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
                    raise AssertionError(f"QEMU refused: {self.process.stderr.read().decode()}") from None  # type: ignore[union-attr]
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
