"""Files and folders of a cloud, made and read so that nobody with fewer rights can turn the work elsewhere.

As root, `./pileus` works beside folders that the user `pileus` owns. In such a folder every name may be a link, a FIFO
or a huge file by the time it is opened. So here, and nowhere else in this package: owners and modes are set through
descriptors, what is read is a regular file of bounded size that is reached without links, and root writes only into
folders of its own.
"""

import contextlib
import os
import stat
from pathlib import Path
from typing import IO

MAX_BYTES = 4 * 2**20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not be waited for


def make_folder(path: Path, *, mode: int = 0o755, owner: tuple[int, int] | None = None) -> Path:
    """A folder with exactly this mode and owner; without one, it has to be ours.

    Raises PermissionError when somebody else's, or something else, lies there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        folder = os.open(path, _FOLDER)
    except (FileExistsError, NotADirectoryError) as error:
        raise PermissionError(f"{path} is no folder that we may use: {error.strerror}") from error
    try:
        found = os.fstat(folder)
        if found.st_uid not in {os.geteuid(), *(owner or ())[:1]}:
            raise PermissionError(f"{path} belongs to somebody else")
        if owner and (found.st_uid, found.st_gid) != owner:
            os.fchown(folder, *owner)
        if stat.S_IMODE(found.st_mode) != mode:
            os.fchmod(folder, mode)
    finally:
        os.close(folder)
    return path


def write_file(path: Path, text: str, *, group: int | None = None) -> None:
    """Writes a file that only we read (and this group, if one is named), whole or not at all.

    Raises PermissionError when the folder is somebody else's: there another file could take its name at any moment.
    """
    parent = os.open(path.parent, _FOLDER)
    try:
        if os.fstat(parent).st_uid != os.geteuid():
            raise PermissionError(f"{path.parent} belongs to somebody else")
        fresh = f"{path.name}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=parent)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
        with os.fdopen(descriptor, "w") as file:
            if group is not None:
                os.fchown(descriptor, -1, group)
                os.fchmod(descriptor, 0o640)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.rename(fresh, path.name, src_dir_fd=parent, dst_dir_fd=parent)
    finally:
        os.close(parent)


def read_file(base: Path, *names: str) -> bytes:
    """The file `names[-1]` below the folders `names[:-1]` of `base`; all below `base` may be somebody else's.

    Raises FileNotFoundError, and PermissionError for what is no regular file, behind a link, or above MAX_BYTES.
    """
    path = base.joinpath(*names)
    at = os.open(base, _FOLDER)
    try:
        for name in names:
            opened = os.open(name, _FILE if name is names[-1] else _FOLDER, dir_fd=at)
            os.close(at)
            at = opened
        found = os.fstat(at)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
            raise PermissionError(f"{path} is no file of at most {MAX_BYTES} bytes")
        with os.fdopen(os.dup(at), "rb") as file:
            return file.read(MAX_BYTES)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PermissionError(f"{path} is not what should be there: {error}") from error
    finally:
        os.close(at)


def open_log(path: Path) -> IO[bytes]:
    """A log to append to, which only we read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "ab")
