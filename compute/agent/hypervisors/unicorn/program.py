"""The emulator's program on this host: `board/`, copied to where every machine's user can read it, and tested.

These users may have no access to the source tree. A copy is named by a hash of its content, so an upgrade does not
change the programs of running machines.
"""

import compileall
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path

import structlog

from agent import jail, system
from agent.jail import Jail
from agent.paths import Paths

log = structlog.get_logger()

BOARD = Path(__file__).parent / "board"
SECONDS_TO_TEST = 20.0


@dataclass(frozen=True)
class Finding:
    """`problem` is empty when the engine can be used here; `exact_stops` False: usable, but five times slower."""

    version: str
    exact_stops: bool = False
    problem: str = ""


class Program:
    """The program below `paths.home`."""

    def __init__(self, paths: Paths, confinement: Jail) -> None:
        self._paths = paths
        self._jail = confinement

    @cached_property
    def _directory(self) -> Path:
        digest = hashlib.sha256(sys.version.encode())
        for path in sorted(BOARD.glob("*")):
            if path.is_file():
                digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
        return self._paths.home / "unicorn" / digest.hexdigest()[:16]

    def install(self) -> Path:
        """The directory to run, after copying it there if need be. Raises OSError."""
        board = self._directory / "board"
        if not board.exists():
            parent = self._directory.parent
            parent.mkdir(exist_ok=True)
            parent.chmod(0o755)
            with tempfile.TemporaryDirectory(dir=parent) as new:
                shutil.copytree(BOARD, f"{new}/board", ignore=shutil.ignore_patterns("__pycache__"))
                compileall.compile_dir(f"{new}/board", quiet=1)
                for path in [Path(new), *Path(new).rglob("*")]:
                    path.chmod(0o755 if path.is_dir() else 0o644)
                with contextlib.suppress(FileExistsError, NotADirectoryError):
                    # Another process has made the same copy; a directory with files is never replaced.
                    os.rename(f"{new}/board", self._made(board))
        return board

    @staticmethod
    def _made(board: Path) -> Path:
        board.parent.mkdir(exist_ok=True)
        board.parent.chmod(0o755)
        return board

    def find(self) -> Finding | None:
        """The result of testing the engine once, as a machine's user; None if it is not installed."""
        version = _version()
        if version is None:
            return None
        if known := self._known(version):
            return known
        finding = self._test(version)
        if finding.problem:
            log.warning("the embedded emulator does not work here", problem=finding.problem)
            return finding  # the next test may succeed
        new = self._kept.with_suffix(".new")
        with contextlib.suppress(OSError):  # a full disk does not make the result wrong
            new.write_text(json.dumps({"key": self._key(version), "finding": asdict(finding)}, indent=1))
            os.replace(new, self._kept)
        return finding

    @property
    def exact_stops(self) -> bool | None:
        """The kept result for these; None if nothing is kept or something changed since."""
        version = _version()
        known = self._known(version) if version else None
        return known.exact_stops if known else None

    @property
    def _kept(self) -> Path:
        return self._paths.home / "unicorn.json"

    def _key(self, version: str) -> str:
        """What a result depends on: another engine, program, kernel or processor is tested again."""
        return " | ".join((version, self._directory.name, system.kernel(), system.cpu_model()))

    def _known(self, version: str) -> Finding | None:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            known = json.loads(self._kept.read_text())
            if known["key"] == self._key(version):
                return Finding(**known["finding"])
        return None

    def _test(self, version: str) -> Finding:
        try:
            jailed = jail.prefix(self._jail.confine(jail.first_uid()))
            command = [*jailed, sys.executable, "-I", os.fspath(self.install()), "--self-test"]
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS_TO_TEST)  # noqa: S603
            if done.returncode != 0:
                return Finding(version, problem=done.stderr.strip()[-500:] or f"ended with status {done.returncode}")
            return Finding(version, exact_stops=bool(json.loads(done.stdout)["exact_stops"]))
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            return Finding(version, problem=str(error))


def _version() -> str | None:
    """Of the engine that is installed; None when none is."""
    try:
        return metadata.version("unicorn")
    except metadata.PackageNotFoundError:
        return None
