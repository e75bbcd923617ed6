"""Real machines for tests: a node with the real QEMU and a guest of a few bytes that prints a line and then waits."""

import hashlib
import shutil
import struct
from pathlib import Path

import psutil

from agent import jail
from agent.control_plane import ControlPlane
from agent.kinds import Tools
from agent.ledger import Ledger
from agent.paths import Paths
from compute.agent.hypervisors import installed
from compute.agent.kinds import Machines
from tests.agent.stand_in import ControlPlaneStandIn
from tests.fakes import ComputeHost

GREETING = b"hello from a very small guest\r\n"


class QemuNode(ComputeHost):
    """A host of its own below `home`, with the hypervisors and the jail that this machine has."""

    def __init__(self, url: str, home: Path) -> None:
        paths = Paths(home / "agent", home / "run")
        paths.make()
        # What probing found is true for all tests on this machine.
        kept = Path("/tmp") / f"pileus-test-probes-{paths.home.stat().st_uid}.json"
        if kept.exists():
            shutil.copyfile(kept, paths.home / "probes.json")
        confinement = jail.probe(paths)
        hypervisors = installed(paths, confinement)
        shutil.copyfile(paths.home / "probes.json", kept)
        tools = Tools(paths, Ledger(paths.ledger), ControlPlane(url), confinement)
        super().__init__(tools, Machines(tools, hypervisors))

    def look_once(self) -> None:
        self.notice_all(thoroughly=True)
        self.look()
        self.send_reports()

    @staticmethod
    def emulators(machine_id: str) -> list[psutil.Process]:
        """Every QEMU of this machine, whoever knows of it."""
        found = []
        for process in psutil.process_iter(["name", "cmdline"]):
            command = process.info["cmdline"] or []
            if machine_id in command and "qemu" in (process.info["name"] or ""):
                found.append(process)
        return found


def waiting_kernel() -> bytes:
    """A Multiboot kernel that prints a line on the first serial port and waits for ever without using the processor."""
    load, header_size = 0x100000, 32
    code = bytearray(
        b"\xbe\0\0\0\0"  # mov esi, text
        b"\x66\xba\xf8\x03"  # mov dx, 0x3f8
        b"\xac"  # next: lodsb
        b"\x84\xc0"  # test al, al
        b"\x74\x03"  # jz done
        b"\xee"  # out dx, al
        b"\xeb\xf8"  # jmp next
        b"\xfa\xf4\xeb\xfc"  # done: cli; hlt; jmp done
    )
    text = load + header_size + len(code)
    code[1:5] = struct.pack("<I", text)
    magic, flags, end = 0x1BADB002, 0x10000, text + len(GREETING) + 1
    words = (magic, flags, -(magic + flags) & 0xFFFFFFFF, load, load, end, end, load + header_size)
    return struct.pack("<8I", *words) + bytes(code) + GREETING + b"\0"


def put_image_file(control_plane: ControlPlaneStandIn, directory: Path, role: str, content: bytes) -> dict[str, object]:
    """Let the control plane serve a file of an image; its entry for a spec."""
    sha256 = hashlib.sha256(content).hexdigest()
    path = directory / sha256
    path.write_bytes(content)
    control_plane.files[sha256] = path
    return {"role": role, "sha256": sha256, "size": len(content), "format": None if role != "disk" else "raw"}
