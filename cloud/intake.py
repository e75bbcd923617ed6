"""Bodies that are too large for memory: each goes into a file while it arrives, and no thread waits for it.

A view that takes such a body says where it goes (`Intake`); the body comes later, in pieces, from whoever reads the
connection (cloud/web_worker.py), and the view is asked once more when all of it is there (`Received`).
"""

import fcntl
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloud.problems import Conflict, Invalid, Problem, TooLarge, Unavailable

PATHS = re.compile(r".*/(?:file|files/[0-9]+)")  # what takes such a body is called like this
MAX_CHUNK_LINE = 8190
MIN_FREE_BYTES = 1 << 30  # of the disk that files go to
RECEIVER, RECEIVED = "pileus.receiver", "pileus.received"  # in a request's environ
MAX_UNSYNCED = 64 << 20
PIECE = 1 << 20
NO_LIMIT = 1 << 62


class Busy(Conflict):
    """Another request writes to the same file."""

    retryable = True


@dataclass(frozen=True)
class Intake:
    """Where a body goes: to the file's end, which must be at `offset`; None: in the place of what is there.

    `limit`: bytes that it may have at most. `keeps_part`: what came stays although the rest does not.
    `still`: raises Problem when the file is not to be written any more; asked when nobody else can write to it.
    `why`: where that limit comes from, as a sentence. `owner`: whose it is, as one has so many at a time.
    """

    path: Path
    limit: int
    owner: str
    offset: int | None = None
    keeps_part: bool = False
    hashes: tuple[str, ...] = ()
    why: str = ""
    still: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Received:
    """A body that is all there: how many bytes it had, and its digests by the names of the hashes."""

    path: Path
    offset: int
    size: int
    digests: dict[str, str] = field(default_factory=dict)

    def undo(self) -> None:
        """Take back what this request has brought, as if it had not been sent."""
        os.truncate(self.path, self.offset)


class Plain:
    """A body of a length that its head tells."""

    def __init__(self, length: int) -> None:
        self.left = length

    @property
    def is_complete(self) -> bool:
        return self.left == 0

    def feed(self, data: bytes, take: Callable[[bytes], None]) -> None:
        piece = data[: self.left]
        self.left -= len(piece)
        take(piece)


class Chunked:
    """A body in chunks (RFC 9112, section 7.1). Trailers are read and dropped."""

    def __init__(self) -> None:
        self.is_complete = False
        self._left = 0  # of the present chunk
        self._line = bytearray()  # what has come of a line
        self._want = "size"  # size, data, end (of a chunk), trailer

    def feed(self, data: bytes, take: Callable[[bytes], None]) -> None:
        at = 0
        while at < len(data) and not self.is_complete:
            if self._want == "data":
                piece = data[at : at + self._left]
                take(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._want = "end"
                continue
            end = data.find(b"\n", at)
            self._line += data[at : end + 1 if end >= 0 else len(data)]
            at = end + 1 if end >= 0 else len(data)
            if len(self._line) > MAX_CHUNK_LINE:
                raise malformed()
            if end >= 0:
                line, self._line = bytes(self._line), bytearray()
                self._read_line(line)

    def _read_line(self, line: bytes) -> None:
        if not line.endswith(b"\r\n"):
            raise malformed()
        text = line[:-2]
        if self._want == "end":
            if text:
                raise malformed()
            self._want = "size"
        elif self._want == "trailer":
            self.is_complete = not text
        else:
            digits = text.partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", digits):
                raise malformed()
            self._left = int(digits, 16)
            self._want = "data" if self._left else "trailer"


def malformed() -> Invalid:
    return Invalid("The chunks of the body are malformed, or end early.")


class Receiver:
    """One body on its way into its file, which is locked meanwhile. Raises Busy when another one writes to it."""

    def __init__(self, intake: Intake, framing: Plain | Chunked) -> None:
        self.intake, self.framing, self.size = intake, framing, 0
        self._unsynced = 0
        self._hashes = {name: hashlib.new(name) for name in intake.hashes}
        if isinstance(framing, Plain) and framing.left > intake.limit:
            raise too_large(intake)
        intake.path.parent.mkdir(parents=True, exist_ok=True)
        self._require_room(framing.left if isinstance(framing, Plain) else 0)
        self._file = os.open(intake.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            intake.still()
            has = os.fstat(self._file).st_size
            if intake.offset not in (None, has):
                raise Conflict(f"{has} bytes are here: go on from there, not from {intake.offset}.")
            os.ftruncate(self._file, intake.offset or 0)
            os.lseek(self._file, intake.offset or 0, os.SEEK_SET)
        except BlockingIOError:
            os.close(self._file)
            raise Busy("Another request sends this file at the moment. Wait for it, or end it.") from None
        except BaseException:
            os.close(self._file)
            raise

    def feed(self, data: bytes) -> None:
        """Take in what has come. Raises Problem: too much of it, malformed, or no room."""
        self.framing.feed(data, self._take)

    @property
    def is_complete(self) -> bool:
        return self.framing.is_complete

    def finish(self) -> Received:
        """All of it is here: make it durable. The file stays locked until `close`."""
        os.fsync(self._file)
        digests = {name: made.hexdigest() for name, made in self._hashes.items()}
        return Received(self.intake.path, self.intake.offset or 0, self.size, digests)

    def abort(self) -> None:
        """The rest will not come."""
        if not self.intake.keeps_part:
            os.ftruncate(self._file, self.intake.offset or 0)
        self.close()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _take(self, piece: bytes) -> None:
        if self.size + len(piece) > self.intake.limit:
            raise too_large(self.intake)
        self._require_room(len(piece))
        view = memoryview(piece)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            raise no_room() from error
        self.size += len(piece)
        self._unsynced += len(piece)
        if self._unsynced > MAX_UNSYNCED:  # so that little is left to be done when the last byte is there
            os.fdatasync(self._file)
            self._unsynced = 0
        for made in self._hashes.values():
            made.update(piece)

    def _require_room(self, more: int) -> None:
        free = os.statvfs(self.intake.path.parent)
        if free.f_bavail * free.f_frsize < more + MIN_FREE_BYTES:
            raise no_room()


def too_large(intake: Intake) -> TooLarge:
    return TooLarge(f"There may be {intake.limit} bytes of it at most. {intake.why}".strip())


def no_room() -> Unavailable:
    return Unavailable("The disk of the image store is full. An admin of the cloud has to make room.")


def is_streamed(environ: dict[str, Any]) -> bool:
    """Whether the body of a request is never collected in memory."""
    is_sent = environ.get("REQUEST_METHOD") in ("PUT", "PATCH")
    return is_sent and bool(PATHS.fullmatch(environ.get("PATH_INFO", "")))


def framing_of(environ: dict[str, Any]) -> Plain | Chunked:
    """How the end of a body is told. Raises Invalid."""
    if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
        return Chunked()
    length = environ.get("CONTENT_LENGTH") or "0"
    if not re.fullmatch(r"[0-9]{1,18}", length):
        raise Invalid("Content-Length is a number of bytes.")
    return Plain(int(length))


def take(environ: dict[str, Any], intake: Callable[[], Intake]) -> Received | None:
    """The body of a request, in its file; None: it has yet to come, and the view is asked again then.

    Raises Problem: what `intake` raises, Busy, TooLarge, Unavailable.
    """
    known: Receiver | None = environ.get(RECEIVED)
    if known is not None:
        environ["CONTENT_LENGTH"] = "0"
        return known.finish()
    receiver = Receiver(intake(), framing_of(environ))
    if RECEIVER in environ:
        environ[RECEIVER](receiver)
        return None
    return _read(environ, receiver)


def _read(environ: dict[str, Any], receiver: Receiver) -> Received:
    """Where no worker of ours is beneath (tests): read it here and now."""
    try:
        source = environ["wsgi.input"]
        while not receiver.is_complete:
            framing = receiver.framing
            wanted = min(PIECE, framing.left) if isinstance(framing, Plain) else PIECE
            piece = source.read(wanted)
            if not piece:
                raise Invalid("The body ends early.")
            receiver.feed(piece)
        environ["CONTENT_LENGTH"] = "0"
        return receiver.finish()
    except Problem:
        receiver.abort()
        raise
    finally:
        receiver.close()
