"""QEMU: the main hypervisor, driven directly by its command line and its control socket."""

import os
import platform
import re
import shutil
import socket
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent import emulators, processes
from agent.errors import YOU, NoAnswer, Refused
from agent.jail import Confinement, Jail, first_uid
from agent.paths import Paths
from agent.processes import Process
from agent.spawn import spawn
from compute.agent.homes import Home
from compute.agent.hypervisors.base import Boot, Control, Counters
from compute.agent.hypervisors.qemu import command_line, control, firmware
from compute.agent.hypervisors.qemu.command_line import TRANSLATION_CACHE_MIB, Accelerator, Made
from compute.agent.hypervisors.qemu.devices import DRIVERS
from compute.agent.hypervisors.qemu.probe import BINARIES, Finding, Probes, known_devices, version
from storage import hardware, uefi
from storage.hardware import Hardware

KVM = Path("/dev/kvm")
REOPENS = (6, 1)  # the first QEMU that has blockdev-reopen
FIRMWARE = {"aarch64": Path("/usr/share/qemu-efi-aarch64/QEMU_EFI.fd")}


def _since(version: str, first: tuple[int, int]) -> bool:
    """Whether a version such as "7.2.22" is the first one that can do something, or later."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2]) >= first


def groups_to_use(device: Path) -> tuple[int, ...] | None:
    """The groups that give access to a device. None: only root's would, and that gives access to much more."""
    found = device.stat()
    if found.st_mode & 0o006 == 0o006:
        return ()
    return (found.st_gid,) if found.st_mode & 0o060 == 0o060 and found.st_gid != 0 else None


class Qemu:
    """`hypervisors.base.Hypervisor` for QEMU."""

    name = "qemu"
    takes_headers = True

    def __init__(self, paths: Paths, jail: Jail) -> None:
        self._jail = jail
        self._probes = Probes(paths.home / "probes.json")
        self._binaries = {name: found for name, binary in BINARIES.items() if (found := shutil.which(binary))}
        self._versions = {name: found for name, binary in self._binaries.items() if (found := version(binary))}
        self._devices = {name: known_devices(binary) for name, binary in self._binaries.items()}

    def probe(self) -> dict[str, Any] | None:
        architectures: dict[str, Any] = {}
        for name, qemu_version in self._versions.items():
            tcg = self._accelerator(name, "tcg")
            if self._probes.find(name, tcg, qemu_version, self._confinement("tcg")).problem is None:
                problem = self._kvm_problem(name)
                accelerator = {"accelerator": "tcg" if problem else "kvm", "kvm": problem}
                architectures[name] = accelerator | {"hardware": self._hardware(name)}
        if not architectures or shutil.which("qemu-img") is None:
            return None
        first = next(iter(self._versions.values()))
        verbs = ["pause", "suspend", "plug", "copy", "cd"]
        if all(_since(found, REOPENS) for found in self._versions.values()):
            verbs.append("layers")
        return {"version": first, "architectures": architectures, "verbs": verbs}

    def _hardware(self, architecture: str) -> list[str]:
        """What machines can be made of here: words of `storage.hardware`."""
        types = hardware.MACHINES[architecture]
        buses = {bus for one in types for bus in (*hardware.DISK_BUSES[one], *hardware.NIC_BUSES[one])}
        words = {*types, *hardware.FIRMWARES[architecture], *buses}
        return sorted(word for word in words if self._has(architecture, word))

    def _has(self, architecture: str, word: str) -> bool:
        if (architecture, word) == ("x86_64", "uefi"):
            return all(firmware.find(architecture, one) for one in hardware.MACHINES[architecture])
        known = self._devices[architecture]
        return word not in DRIVERS or not known or DRIVERS[word] in known

    def probe_accelerators(self) -> bool:
        found = False
        for name, qemu_version in self._versions.items():
            known = self._known(name)
            if self._why_not_kvm(name) is None and (known is None or known.is_doubtful):
                self._probes.find(name, self._accelerator(name, "kvm"), qemu_version, self._confinement("kvm"))
                found = True
        return found

    def _kvm_problem(self, architecture: str) -> str | None:
        """Why KVM is not used; None if it is used."""
        problem = self._why_not_kvm(architecture)
        if problem:
            return problem
        known = self._known(architecture)
        return known.problem if known else "not checked yet"

    def _known(self, architecture: str) -> Finding | None:
        return self._probes.known(architecture, "kvm", self._versions[architecture], self._confinement("kvm"))

    def _why_not_kvm(self, architecture: str) -> str | None:
        """What is known without running a guest."""
        if platform.machine() != architecture:
            return f"this host is {platform.machine()}"
        if not KVM.exists():
            return f"there is no {KVM}"
        if not os.access(KVM, os.R_OK | os.W_OK):
            return f"{KVM} is closed to the agent's user"
        if self._jail.uid and groups_to_use(KVM) is None:
            return f"{KVM} is closed to machines' own users: `chgrp kvm {KVM} && chmod 660 {KVM}` opens it"
        return None

    def _confinement(self, kind: str) -> Confinement:
        """The confinement of a machine with this accelerator."""
        return self._jail.confine(first_uid(), (groups_to_use(KVM) or ()) if kind == "kvm" else ())

    def _accelerator(self, architecture: str, kind: str) -> Accelerator:
        firmware = FIRMWARE.get(architecture)
        return Accelerator(kind, self._binaries[architecture], firmware if firmware and firmware.exists() else None)

    def overhead_mib(self, spec: dict[str, Any]) -> int:
        # QEMU, its device models and threads, slirp, and some page cache.
        return TRANSLATION_CACHE_MIB + 384 + int(spec["memory_mib"]) // 32

    def groups(self) -> tuple[int, ...]:
        native = platform.machine()
        works = native in self._versions and self._kvm_problem(native) is None
        return self._confinement("kvm").groups if works else ()

    def accelerator(self, spec: dict[str, Any]) -> str:
        architecture = spec["architecture"]
        if architecture not in self._versions:
            raise Refused(f"QEMU for {architecture} is not installed on this host")
        return "kvm" if self._kvm_problem(architecture) is None else "tcg"

    def check(self, spec: dict[str, Any], files: Mapping[str, Path]) -> None:
        architecture = spec["architecture"]
        accelerator = self._accelerator(architecture, self.accelerator(spec))
        if "kernel" not in files and architecture != "x86_64" and not accelerator.firmware:
            wanted = FIRMWARE.get(architecture, "that starts disks")
            raise Refused(f"an image without a kernel file needs a firmware for {architecture}: {wanted} is not here")
        wish = spec["image"].get("hardware") or {}
        if faults := hardware.faults(architecture, wish, own_kernel="kernel" in files):
            raise Refused(" ".join(faults.values()), fix_by=YOU)
        self._made(architecture, hardware.resolve(architecture, wish))

    def _made(self, architecture: str, made_of: Hardware) -> Made:
        """Raises Refused for what this host has not."""
        lacking = [word for word in made_of.words if not self._has(architecture, word)]
        if lacking:
            more = ": install the package ovmf" if "uefi" in lacking else ""
            words = ", ".join(hardware.name(word) for word in lacking)
            raise Refused(f"QEMU on this host has no {words} for {architecture}{more}")
        uefi = firmware.find(architecture, made_of.machine_type) if made_of.firmware == "uefi" else None
        return Made(made_of, uefi)

    def start(self, boot: Boot) -> Process:
        architecture = boot.spec["architecture"]
        accelerator = self._accelerator(architecture, self.accelerator(boot.spec))
        if boot.saved:
            made_of = control.read_hardware(boot.saved / control.HARDWARE)
            ports, has_channel = control.ports_of_saved(boot.saved), control.had_channel(boot.saved)
            made = replace(self._made(architecture, made_of), ports=ports, has_channel=has_channel)
        else:
            made = self._made(architecture, hardware.resolve(architecture, boot.spec["image"].get("hardware") or {}))
        if made.uefi:
            firmware.make_variables(made.uefi, boot.home, boot.confinement.uid, boot.files.get(uefi.ROLE))
        control.keep_hardware(boot.home, made.hardware)
        argv = command_line.arguments(boot, accelerator, made)
        process = spawn(argv, boot.home, boot.confinement, boot.descriptors)
        if boot.saved:
            self._go_on(process, boot.home, boot.saved)
        return process

    @staticmethod
    def _go_on(process: Process, home: Home, saved: Path) -> None:
        try:
            with control.connect(home) as connection:
                connection.load(saved)
        except NoAnswer as error:
            process.kill()
            words = processes.tail(home.emulator_log, 600) or str(error)
            raise Refused(f"QEMU cannot go on from where it was suspended: {words}") from error

    def find(self, home: Home) -> Process | None:
        return emulators.find(home)

    def control(self, home: Home) -> AbstractContextManager[Control]:
        return control.connect(home)

    def events(self, home: Home) -> socket.socket | None:
        return control.events(home)

    def counters(self, home: Home) -> Counters:
        return control.counters(home)
