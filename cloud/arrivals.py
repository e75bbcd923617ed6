"""A request while it arrives: whether all of it is here, without a thread that waits for the rest.

HTTP/1.1 framing (RFC 9112, sections 6 and 7), only as far as finding the end takes. Whatever is malformed counts as
here: whoever parses it then refuses it without waiting for more.
"""

import re
import time
from dataclasses import dataclass, field

from gunicorn import util

from cloud import intake

MAX_HEAD_BYTES = 32 * 1024
MAX_CHUNK_LINE = 8190
MAX_OVERHEAD = 8  # bytes on the wire for a byte of a chunked body
HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0

_END = b"\r\n\r\n"
# Strangers' bytes: no two repetitions that follow each other take the same byte, so each search takes linear time.
_LENGTH = re.compile(rb"\r\ncontent-length:([^\r\n]*)(?=\r\n)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r\n)", re.IGNORECASE)


class Refused(Exception):
    """The request is given up. `args`: an HTTP status and its reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status, self.reason = status, reason


@dataclass
class Arrival:
    """What has come of one request (and perhaps of the next ones), and until when the rest must be here."""

    max_body: int
    data: bytearray = field(default_factory=bytearray)
    began: float = field(default_factory=time.monotonic)
    complete: bool = False
    is_cut: bool = False  # its body is refused by its head, or by its beginning: the rest is never read
    is_streamed: bool = False  # its body is for a file: nothing of it is waited for
    wants_continue: bool = False  # the client waits for "100 Continue" before it sends the body
    _head: int | None = None  # where the body begins
    _wanted: int | None = None  # how long all of it is; None: chunked
    _at: int = 0  # the next chunk
    _decoded: int = 0

    @property
    def deadline(self) -> float:
        return self.began + (HEAD_SECONDS if self._head is None else HEAD_SECONDS + BODY_SECONDS)

    def feed(self, piece: bytes) -> None:
        """Take in what has come. Raises Refused for more than a request may have."""
        searched = max(0, len(self.data) - len(_END) + 1)
        self.data += piece
        if self._head is None:
            self._find_head(searched)
        if self._head is not None and not self.complete:
            self.complete = self._is_complete()

    def _find_head(self, searched: int) -> None:
        end = self.data.find(_END, searched)
        if end < 0 or end > MAX_HEAD_BYTES:
            if len(self.data) > MAX_HEAD_BYTES:
                raise Refused(431, "Request Header Fields Too Large")
            return
        self._head = self._at = end + len(_END)
        head = bytes(self.data[: self._head])
        lengths = [length.strip(b" \t") for length in _LENGTH.findall(head)]
        has_body = bool(lengths or _CHUNKED.search(head))
        if has_body and _is_streamed(head):
            self._wanted = self._head
            self.is_streamed = True
            return
        if _CHUNKED.search(head):
            self._wanted = None
        elif len(lengths) == 1 and lengths[0].isdigit() and len(lengths[0]) < 16 and int(lengths[0]) <= self.max_body:
            self._wanted = self._head + int(lengths[0])
        else:
            self._wanted = self._head
            self.is_cut = bool(lengths)
        self.wants_continue = bool(_EXPECTS.search(head))

    def _is_complete(self) -> bool:
        if self._wanted is not None:
            return len(self.data) >= self._wanted
        if len(self.data) > MAX_OVERHEAD * self.max_body + MAX_HEAD_BYTES:
            raise Refused(413, "Content Too Large")
        return self._has_last_chunk()

    def _has_last_chunk(self) -> bool:
        self.is_cut = True  # unless it ends as it should
        while True:
            end = self.data.find(b"\r\n", self._at, self._at + MAX_CHUNK_LINE + 2)
            if end < 0:
                return len(self.data) - self._at > MAX_CHUNK_LINE
            digits = bytes(self.data[self._at : end]).partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", digits):
                return True
            size = int(digits, 16)
            if size == 0:
                self.is_cut = self.data.find(_END, end) < 0
                return not self.is_cut or len(self.data) - end > MAX_HEAD_BYTES
            come = len(self.data) - end - 2
            if self._decoded + min(size, come) > self.max_body:
                return True
            if come < size + 2:
                return False
            self._at = end + 2 + size + 2
            self._decoded += size
            if self.data[self._at - 2 : self._at] != b"\r\n":
                return True


def _is_streamed(head: bytes) -> bool:
    """As the application has it, of the path as gunicorn reads it: otherwise a thread would wait for the body."""
    method, target, *_ = (*head.partition(b"\r\n")[0].decode("latin-1").split(" ", 2), "")
    try:
        path = util.unquote_to_wsgi_str(util.split_request_uri(target).path)
    except ValueError:  # it is refused
        return False
    return intake.is_streamed({"REQUEST_METHOD": method, "PATH_INFO": path})
