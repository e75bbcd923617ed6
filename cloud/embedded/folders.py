"""Makes the state folder, and refuses a disk that is full before anything is half-written to it."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from cloud.embedded.accounts import Account
from cloud.embedded.errors import Trouble
from cloud.embedded.files import make_folder
from cloud.embedded.paths import Home

NEEDED_GIB = 2


def make_folders(home: Home, account: Account) -> None:
    """Every folder with the owner of those who write to it. Raises Trouble when one cannot be made."""
    try:
        make_folder(home.root)
        make_folder(home.secrets, mode=0o700)
        make_folder(home.log, mode=0o700)  # what processes write there is for nobody else's eyes
        for folder in (home.servers, home.stamps):
            make_folder(folder)
        for folder in (home.image_store, home.backup_store, home.built_images, home.cache):
            make_folder(folder, owner=account.owner)
        make_folder(home.agent, mode=0o711)
        make_folder(home.runtime)
        make_folder(home.streams_socket.parent, mode=0o700, owner=account.owner)
        make_folder(home.agent_sockets, mode=0o711)
    except OSError as error:
        raise Trouble(f"cannot write the state folder: {error}") from error


def require_space(home: Home) -> None:
    free = shutil.disk_usage(home.root).free / 2**30
    if free < NEEDED_GIB:
        raise Trouble(
            f"{home.root} has {free:.1f} GiB free, and {NEEDED_GIB} GiB are needed; "
            "make room, or set PILEUS_HOME to a folder on another disk"
        )


@contextmanager
def one_command_at_a_time(home: Home) -> Iterator[None]:
    """`up`, `restart` and `down` never run side by side. Raises Trouble when another one is under way."""
    file = os.open(home.root / "command.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise Trouble("another ./pileus up, restart or down is under way; wait for it") from error
    finally:
        os.close(file)
