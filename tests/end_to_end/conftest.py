"""One real cloud for all of these tests: making it costs a minute."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.machines import OneMachine


@pytest.fixture(scope="session")
def machine() -> Iterator[OneMachine]:
    """Goes with everything in it; the tests fail when a process or a socket stays behind."""
    folder = Path(tempfile.mkdtemp(prefix="pileus-copy-"))
    folder.chmod(0o755)
    machine = OneMachine(folder)
    try:
        machine.first_up = machine.pileus("up")
        machine.first_boots = machine.boots()
        yield machine
    finally:
        machine.pileus("down", check=False)
        left, sockets = machine.processes(), machine.home.runtime
        shutil.rmtree(folder, ignore_errors=True)
    assert left == []
    assert not sockets.exists()
