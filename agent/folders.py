"""Files and folders of resources, opened so that a less privileged user cannot redirect the access (symlink attacks).

An emulator's user owns some files here, and at times a whole folder. Whoever has broken out into that user can put
anything there under any name at any moment: a link to a file of root, a FIFO that nobody writes to, a file without an
end. So every name is looked up in an open folder and never through a link, nothing but a regular file is opened, no
opening waits, owners and modes are set through descriptors, and reading has a limit. The folder that a path names must
lie in folders that only the agent can write.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

CLONE_FILE_RANGE = 0x40049409  # FICLONE of ioctl_ficlonerange(2)
PIECE = 1 << 20
MAX_SECONDS_TO_REMOVE = 60.0
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


# Files


def open_file(path: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of the regular file there. With O_CREAT it is made if missing, closed to all others.

    Raises FileNotFoundError, and PermissionError for anything else than a regular file.
    """
    try:
        with opened(path.parent) as folder:
            handle = os.open(path.name, flags | _FILE, 0o600, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENOTDIR, errno.EISDIR):
            raise PermissionError(f"{path} is not what should be there: {error.strerror}") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise PermissionError(f"{path} is no regular file")
    return handle


def create_file(path: Path) -> IO[bytes]:
    """A new file to write to, closed to all others. Raises FileExistsError whatever has the name."""
    return os.fdopen(open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")


def read_file(path: Path, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes. Raises as `open_file`, and PermissionError if it is longer."""
    with os.fdopen(open_file(path), "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise PermissionError(f"{path} is longer than {limit} bytes")
    return content


def read_end(path: Path, limit: int) -> bytes:
    """The last bytes of a file, at most `limit`. Raises as `open_file`."""
    handle = open_file(path)
    try:
        return os.pread(handle, limit, max(0, os.fstat(handle).st_size - limit))
    finally:
        os.close(handle)


def give_file(path: Path, uid: int | None, mode: int) -> None:
    """Hand a file to a user and the group of the same number; None: it stays whose it is. Raises as `open_file`."""
    handle = open_file(path)
    try:
        os.fchmod(handle, mode)
        if uid is not None:
            os.fchown(handle, uid, uid)
    finally:
        os.close(handle)


def link_file(source: Path, target: Path) -> None:
    """A second name for a file, itself and not what it may point to. Raises OSError."""
    with opened(source.parent) as old, opened(target.parent) as new:
        os.link(source.name, target.name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)


def copy_file(source: Path, target: Path, *, min_free: int) -> None:
    """A copy of a file as long as it is now, holes staying holes; it shares all blocks where the filesystem can.

    Raises FileExistsError, and OSError(ENOSPC) before less than `min_free` bytes are free.
    """
    with os.fdopen(open_file(source), "rb") as reading, create_file(target) as writing:
        with contextlib.suppress(OSError):
            fcntl.ioctl(writing, CLONE_FILE_RANGE, reading.fileno())
            return
        length = os.fstat(reading.fileno()).st_size
        os.ftruncate(writing.fileno(), length)
        for offset, size in _pieces(reading.fileno(), length):
            if shutil.disk_usage(writing.fileno()).free - size < min_free:
                raise OSError(errno.ENOSPC, f"the host's disk has no room for a copy of {source.name}")
            writing.seek(offset)
            writing.write(os.pread(reading.fileno(), size, offset))


def _pieces(handle: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a file has data, in pieces: offset and size."""
    end = 0
    while True:
        try:
            start = os.lseek(handle, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = min(size, os.lseek(handle, start, os.SEEK_HOLE))
        if start >= end:
            return
        for offset in range(start, end, PIECE):
            yield offset, min(PIECE, end - offset)


def status(path: Path) -> os.stat_result | None:
    """What has this name, itself and not what it may point to; None: nothing."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), opened(path.parent) as folder:
        return os.stat(path.name, dir_fd=folder, follow_symlinks=False)
    return None


# Folders


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of the folder there. Raises FileNotFoundError, NotADirectoryError."""
    folder = os.open(path, _FOLDER)
    try:
        yield folder
    finally:
        os.close(folder)


def make_folder(path: Path, mode: int, *, uid: int | None = None, gid: int | None = None) -> None:
    """A folder with exactly this mode, owner and group, made if it is missing; None: ours. Raises OSError."""
    path.mkdir(parents=True, exist_ok=True)
    with opened(path) as folder:
        found = os.fstat(folder)
        owner = os.geteuid() if uid is None else uid, os.getegid() if gid is None else gid
        is_ours = os.geteuid() == 0 or found.st_uid == os.geteuid()
        if is_ours and (found.st_uid, found.st_gid) != owner:
            os.fchown(folder, *owner)
        os.fchmod(folder, mode)


def names(path: Path) -> list[str]:
    """The names in a folder; none when there is no folder. Raises OSError."""
    with contextlib.suppress(FileNotFoundError), opened(path) as folder:
        return sorted(os.listdir(folder))
    return []


@contextlib.contextmanager
def lent(path: Path, uid: int | None) -> Iterator[None]:
    """Let a user write in a folder of ours, and take it back."""
    if uid is not None:
        make_folder(path, 0o700, uid=uid, gid=uid)
    try:
        yield
    finally:
        take_back(path)


def take_back(path: Path) -> None:
    """Make a folder that was lent ours again, with no more in it than regular files that have no other name.

    Others may then pass through it. One that is ours already stays as it is. Raises OSError.
    """
    with opened(path) as folder:
        if os.fstat(folder).st_uid == os.geteuid():
            return
        _take(folder, 0o711)
        for name in os.listdir(folder):
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                _remove(folder, name)


def remove(path: Path) -> None:
    """Remove a folder with all that is in it, whoever owns it; nothing happens if there is none. Raises OSError."""
    with contextlib.suppress(FileNotFoundError), opened(path.parent) as folder:
        _remove(folder, path.name)


def _take(folder: int, mode: int) -> None:
    """Take the folder over: other users cannot add files to it any more."""
    if os.fstat(folder).st_uid != os.geteuid():
        os.fchown(folder, os.geteuid(), os.getegid())
    os.fchmod(folder, mode)


def _remove(parent: int, name: str) -> None:
    """Whatever has this name. A tree may be deeper than descriptors or the stack reach, so it is made flat first:
    every folder in it is taken from its owner, and its own folders are moved up beside it."""
    try:
        top = os.open(name, _FOLDER, dir_fd=parent)
    except NotADirectoryError:
        os.unlink(name, dir_fd=parent)
        return
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        os.unlink(name, dir_fd=parent)
        return
    try:
        _take(top, 0o700)
        moved, deadline = 0, time.monotonic() + MAX_SECONDS_TO_REMOVE
        while folders := _unlink_files(top):
            for each in folders:
                if time.monotonic() > deadline:
                    raise OSError(errno.EBUSY, f"{name} is filled faster than it can be removed")
                inner = os.open(each, _FOLDER, dir_fd=top)
                try:
                    _take(inner, 0o700)
                    for deeper in _unlink_files(inner):
                        moved += 1
                        os.rename(deeper, _unused(top, moved), src_dir_fd=inner, dst_dir_fd=top)
                finally:
                    os.close(inner)
                os.rmdir(each, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _unused(folder: int, number: int) -> str:
    """A name that is not in the folder, which is ours."""
    name = f".moved-{number}"
    while True:
        try:
            os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return name
        name += "-"


def _unlink_files(folder: int) -> list[str]:
    """Unlink all that is no folder; the names of the folders. Nobody else may write to it."""
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=folder)
    return folders
