"""User data in several parts (MIME), as the API checks it and as hosts lay it before a guest. Standard library only.

A guest gets a MIME message as `#cloud-config-archive`, which says the same in YAML: so a guest needs no reader of mail.
"""

import email
import json
import re
import zlib
from dataclasses import dataclass
from email import errors
from email.message import Message
from typing import Any

BYTE_ORDER_MARK = "\ufeff"
MAX_PART_BYTES = 1024 * 1024  # of one part, unpacked
# Content types that say nothing: what such a part is, its first line says.
UNTYPED = frozenset({"text/plain", "text/x-not-multipart", "application/octet-stream"})
_PACKED = frozenset({"application/gzip", "application/gzip-compressed", "application/gzipped", "application/x-gzip"})
_NO_PARTS = (errors.NoBoundaryInMultipartDefect, errors.StartBoundaryNotFoundDefect)


class Unreadable(Exception):
    """The message cannot be read. `args`: words; `line` counts from 1."""

    def __init__(self, words: str, line: int) -> None:
        super().__init__(words)
        self.line = line


@dataclass(frozen=True)
class Part:
    """One part. `type` is "" where its text says what it is; `line` is the first of its text within the message."""

    type: str
    text: str
    line: int
    encoded: bool = False  # its lines are not those of the message

    def line_of(self, number: int) -> int:
        """The line of the message for a line of this part; both count from 1."""
        return self.line if self.encoded else self.line + number - 1


def without_mark(text: str) -> str:
    """The text without a byte order mark, which editors put before it."""
    return text.removeprefix(BYTE_ORDER_MARK)


def is_multipart(text: str) -> bool:
    """Whether this is a MIME message. Scripts and documents that only speak of one are not."""
    return not without_mark(text).lstrip().startswith("#") and "mime-version:" in text[:4096].lower()


def parts(text: str) -> list[Part]:
    """The parts of a MIME message, in their order. Raises Unreadable."""
    text = without_mark(text).replace("\r\n", "\n")
    found, at = [], 0
    for message in email.message_from_string(text.lstrip()).walk():
        if any(isinstance(defect, _NO_PARTS) for defect in message.defects):
            raise Unreadable("a multipart message whose parts cannot be told apart: its boundary is missing", 1)
        if not message.is_multipart():
            # After the empty line that ends the part's head.
            at = max(text.find(f"\n\n{message.get_payload()}", at) + 2, at)
            found.append(_part(message, text.count("\n", 0, at) + 1))
    return found


def _part(message: Message, line: int) -> Part:
    encoded = str(message.get("Content-Transfer-Encoding", "7bit")).lower() not in {"7bit", "8bit", "binary"}
    # Written as it is, a part is UTF-8 like the message, whatever charset it names.
    content = message.get_payload(decode=True) if encoded else str(message.get_payload()).encode(errors="surrogatepass")
    garbled = any(isinstance(defect, errors.InvalidBase64CharactersDefect) for defect in message.defects)
    if not isinstance(content, bytes) or garbled:
        raise Unreadable("a part that is not what its Content-Transfer-Encoding says", line)
    kind = message.get_content_type()
    packed = kind in _PACKED or content.startswith(b"\x1f\x8b")
    if packed:
        content, kind = _unpacked(content, line), ""
    try:
        decoded = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("a part that is not text in UTF-8", line) from None
    return Part("" if kind in UNTYPED else kind, decoded, line, encoded or packed)


def _unpacked(content: bytes, line: int) -> bytes:
    reader = zlib.decompressobj(wbits=31)
    try:
        unpacked = reader.decompress(content, MAX_PART_BYTES)
    except zlib.error:
        raise Unreadable("a part that is not the gzip that it says", line) from None
    if not reader.eof:
        raise Unreadable(f"a part that ends early, or has more than {MAX_PART_BYTES // 1024} KiB", line)
    return unpacked


def archive(text: str) -> str:
    """A MIME message as a `#cloud-config-archive`. Raises Unreadable."""
    entries = [({"type": part.type} if part.type else {}) | {"content": part.text} for part in parts(text)]
    return f"#cloud-config-archive\n{as_yaml(entries)}\n"


# Beyond what JSON escapes: what YAML lets in only escaped, or takes for the end of a line.
_ESCAPED = re.compile(r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def as_yaml(value: Any, *, indent: int | None = None) -> str:
    """JSON that every reader of YAML takes for the same: no quoting to get wrong, no character that YAML forbids."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
