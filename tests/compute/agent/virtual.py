"""Real machines for tests: a node with the real QEMU and a guest of a few bytes that prints a line and then waits."""

import hashlib
import io
import shutil
import struct
from pathlib import Path

import psutil
import pycdlib

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


def installer(welcome: bytes, after: bytes, installed: bytes) -> bytes:
    """A CD that says `welcome` on the first serial port, makes the first disk bootable and says `after`.

    What it has put on the disk says `installed`. Nothing but a BIOS is needed."""
    base = 0x7C00  # where a BIOS loads what it starts
    prelude = bytes.fromhex("fa31c08ed88ec08ed0bc007cfbfc")  # segments and stack at 0

    def say(address: int) -> bytes:
        return b"\xbe" + struct.pack("<H", address) + bytes.fromhex("ac84c07406baf803eeebf5")

    halt = bytes.fromhex("faf4ebfc")
    boot_sector = (prelude + say(base + 0x100) + halt).ljust(0x100, b"\0") + installed + b"\0"
    boot_sector = boot_sector.ljust(510, b"\0") + b"\x55\xaa"
    # int 13h, ah=3: write one sector, from the second of the CD's boot image to the first of the first disk
    write = bytes.fromhex("b80103bb007eb90100ba8000cd13") + b"\x72" + bytes([len(say(0))])
    code = (prelude + say(base + 0x100) + write + say(base + 0x180) + halt).ljust(0x100, b"\0")
    code = (code + welcome + b"\0").ljust(0x180, b"\0") + after + b"\0"
    boot_image = (code.ljust(512, b"\0") + boot_sector).ljust(2048, b"\0")
    iso, written = pycdlib.PyCdlib(), io.BytesIO()
    iso.new()
    iso.add_fp(io.BytesIO(boot_image), len(boot_image), "/BOOT.;1")
    iso.add_eltorito("/BOOT.;1", bootcatfile="/BOOT.CAT;1", boot_load_size=4)
    iso.write_fp(written)
    iso.close()
    return written.getvalue()


def put_image_file(control_plane: ControlPlaneStandIn, directory: Path, role: str, content: bytes) -> dict[str, object]:
    """Let the control plane serve a file of an image; its entry for a spec."""
    sha256 = hashlib.sha256(content).hexdigest()
    path = directory / sha256
    path.write_bytes(content)
    control_plane.files[sha256] = path
    return {
        "role": role,
        "sha256": sha256,
        "size": len(content),
        "format": None if role in ("kernel", "initrd") else "raw",
    }
