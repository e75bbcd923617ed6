"""UEFI for machines: found by the descriptors that firmware packages install, with a variable store for each machine.

Source: QEMU's docs/interop/firmware.json.
"""

import contextlib
import fnmatch
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import folders
from agent.durability import sync_directory, sync_file
from agent.errors import OPERATOR, Refused
from agent.system import MIN_FREE_BYTES
from compute.agent.homes import Home

DESCRIPTORS = (Path("/etc/qemu/firmware"), Path("/usr/share/qemu/firmware"))
MAX_DESCRIPTOR = 1 << 20
UNWANTED = {"secure-boot", "requires-smm", "enrolled-keys"}  # features
BOARDS = {"q35": "pc-q35-*", "pc": "pc-i440fx-*"}


@dataclass(frozen=True)
class Uefi:
    """`code`: the firmware, read by all; `variables`: the template of a machine's own settings. Both are raw files."""

    code: Path
    variables: Path


def find(architecture: str, machine_type: str) -> Uefi | None:
    """What this host has for such machines; of several the first, as the packages order them."""
    files: dict[str, Path] = {}
    for folder in reversed(DESCRIPTORS):  # the admin's file takes the place of the package's
        files |= {path.name: path for path in folder.glob("*.json")}
    for _, path in sorted(files.items()):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if (found := _read(path, architecture, machine_type)) and found.code.exists() and found.variables.exists():
                return found
    return None


def _read(path: Path, architecture: str, machine_type: str) -> Uefi | None:
    told: dict[str, Any] = json.loads(path.read_bytes()[:MAX_DESCRIPTOR])
    mapping = told["mapping"]
    targets = [target for target in told["targets"] if target["architecture"] == architecture]
    boards = [board for target in targets for board in target["machines"]]
    fits = any(fnmatch.fnmatch(board, BOARDS[machine_type]) for board in boards)
    is_split = mapping["device"] == "flash" and mapping.get("mode", "split") == "split"
    if not fits or "uefi" not in told["interface-types"] or not is_split or UNWANTED & set(told["features"]):
        return None
    code, variables = mapping["executable"], mapping["nvram-template"]
    if (code["format"], variables["format"]) != ("raw", "raw"):
        return None
    return Uefi(Path(code["filename"]), Path(variables["filename"]))


def make_variables(uefi: Uefi, home: Home, uid: int | None, of_image: Path | None = None) -> None:
    """The machine's own variables, made once: they live as long as its disk. They begin as those that its image has,
    or as the template.

    Raises Refused or OSError.
    """
    template = uefi.variables.resolve()
    of_template, there = folders.status(template), folders.status(home.variables)
    if of_template is None:
        raise Refused(f"{template} is not there: install the firmware's package again", fix_by=OPERATOR)
    beginning = of_image or template
    found = there or folders.status(beginning)
    if found is None:
        raise FileNotFoundError(f"{beginning} is not there")
    if found.st_size != of_template.st_size:
        whose, which = ("its", "it was started with") if there else ("its image's", "the image was made with")
        words = f"{whose} UEFI settings have {found.st_size} bytes, and this host's firmware has {of_template.st_size}"
        raise Refused(f"{words}: install the firmware that {which}", fix_by=OPERATOR)
    if there is None:
        new = home.variables.with_suffix(".new")
        folders.remove(new)
        folders.copy_file(beginning, new, min_free=MIN_FREE_BYTES)
        sync_file(new)
        new.rename(home.variables)
        sync_directory(home.directory)
    folders.give_file(home.variables, uid, 0o600)
