"""Files that a thread would take too long to send: a view answers with the head, and web's worker sends the rest.

A client may ask for a part (RFC 9110, section 14): so a download whose line was cut goes on where it was.
"""

import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Protocol

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header

from cloud.problems import Problem

SENDER = "pileus.sender"  # in a request's environ: what takes a file over
PIECE = 1 << 20
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class NoSuchRange(Problem):
    """The file is shorter than the part that is asked for."""

    status: ClassVar[int] = 416
    code: ClassVar[str] = "no_such_range"
    title: ClassVar[str] = "The file has no such part"


class Source(Protocol):
    """A file that can be read: one of this machine, which the kernel sends, or one that comes from elsewhere."""

    def fileno(self) -> int:
        """Raises io.UnsupportedOperation for one from elsewhere."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int: ...

    def read(self, size: int = -1, /) -> bytes: ...

    def close(self) -> None: ...

    def __enter__(self) -> "Source": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


@dataclass
class Outgoing:
    """What is still to be sent of a file. `owner`: whose it is, as one has so many at a time.

    `held`: what has been read of it, where the kernel cannot send it, and the client has not taken yet.
    """

    file: Source
    offset: int
    left: int
    owner: str
    held: bytes = b""

    @property
    def is_here(self) -> bool:
        """Whether it is a file of this machine."""
        try:
            return self.file.fileno() >= 0
        except io.UnsupportedOperation:
            return False

    def close(self) -> None:
        self.file.close()


def answer(environ: dict[str, Any], file: Source, *, owner: str, name: str = "", sha256: str = "") -> HttpResponseBase:
    """The answer that brings a file, or the part of it that the request asks for. It closes the file.

    `name`: as what a browser keeps it. `sha256`: of all of it. Raises NoSuchRange, and what refuses a further download.
    """
    try:
        return _answer(environ, file, owner, name, sha256)
    except BaseException:
        file.close()
        raise


def _answer(environ: dict[str, Any], file: Source, owner: str, name: str, sha256: str) -> HttpResponseBase:
    size = file.seek(0, os.SEEK_END)
    headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    if sha256:
        headers |= {"ETag": f'"{sha256}"', "X-Content-SHA256": sha256}
    if name:
        headers["Content-Disposition"] = content_disposition_header(True, name) or "attachment"
    part = _asked(environ, size, headers.get("ETag"))
    first, last = part or (0, size - 1)
    if part:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    headers["Content-Length"] = str(last - first + 1)
    file.seek(first)
    outgoing, status = Outgoing(file, first, last - first + 1, owner), 206 if part else 200
    if environ.get("REQUEST_METHOD") == "HEAD":
        outgoing.close()
        return HttpResponse(status=status, headers=headers)
    take: Callable[[Outgoing], None] | None = environ.get(SENDER)
    if take is None:  # no worker of ours is beneath (tests)
        return StreamingHttpResponse(_pieces(outgoing), status=status, headers=headers)
    take(outgoing)
    return HttpResponse(status=status, headers=headers)


def _asked(environ: dict[str, Any], size: int, etag: str | None) -> tuple[int, int] | None:
    """The first and the last byte of the one part that is asked for; None: all of it. Raises NoSuchRange."""
    match = _RANGE.fullmatch(environ.get("HTTP_RANGE", "").strip())
    if not match or not (match[1] or match[2]) or environ.get("HTTP_IF_RANGE", etag) != etag:
        return None
    if match[1]:
        first, last = int(match[1]), min(int(match[2] or size), size - 1)
        if match[2] and int(match[2]) < first:
            return None
    else:
        first, last = max(0, size - int(match[2])), size - 1
    if first >= size:
        raise NoSuchRange(f"It has {size} bytes.", headers={"Content-Range": f"bytes */{size}"})
    return first, last


def _pieces(outgoing: Outgoing) -> Iterator[bytes]:
    with outgoing.file as file:
        while outgoing.left and (piece := file.read(min(PIECE, outgoing.left))):
            outgoing.left -= len(piece)
            yield piece
