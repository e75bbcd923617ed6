"""Reading JSON from strangers: bounded in size and depth, and only what means the same everywhere (RFC 7493)."""

import io
import json
import math
import re
from collections import Counter
from typing import Any, NoReturn

from django.conf import settings
from django.http import HttpRequest
from gunicorn.http.errors import ParseException
from rest_framework.parsers import BaseParser

from cloud import intake
from cloud.problems import Fault, Invalid, TooLarge, UnsupportedMediaType

# Possessive, and content with a string that does not end: so it never looks at a byte twice.
STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
BRACKETS = bytes.maketrans(b"{}", b"[]")
NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
SURROGATE = re.compile("[\ud800-\udfff]")
MAX_NUMBER = 2**63
MAX_VALUES = 50_000  # reading more would take longer than a refusal may


class StrictJSONParser(BaseParser):
    """`application/json` into a dict; raises `Invalid`, `TooLarge`."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> dict[str, Any]:
        return parse(read_bounded(stream))


def read_json(request: HttpRequest) -> dict[str, Any]:
    """The body of a request outside of DRF; an empty one is an empty object."""
    accept_chunks(request)
    if not request.META.get("CONTENT_LENGTH") or request.META["CONTENT_LENGTH"] == "0":
        return {}
    if request.content_type != "application/json":
        raise UnsupportedMediaType()
    return parse(read_bounded(request))


def read_bounded(stream: Any) -> bytes:
    """The whole body, unless it is larger than may be; never more than one byte too much is read."""
    declared = getattr(stream, "META", {}).get("CONTENT_LENGTH") or "0"
    if declared.isdigit() and int(declared) > settings.API_MAX_BODY_BYTES:
        raise too_large()
    body: bytes = stream.read(settings.API_MAX_BODY_BYTES + 1)
    if len(body) > settings.API_MAX_BODY_BYTES:
        raise too_large()
    if declared.isdigit() and len(body) < int(declared):
        raise refusal(f"The body ended after {len(body)} of {declared} bytes.")
    return body


def too_large() -> TooLarge:
    return TooLarge(f"A body may have {settings.API_MAX_BODY_BYTES} bytes.", headers={"Connection": "close"})


def accept_chunks(request: HttpRequest) -> None:
    """Let Django see a body that came without its length (chunked): it would take it for an empty one."""
    environ = request.META
    if intake.is_streamed(environ):
        return
    if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower() and environ.get("wsgi.input_terminated"):
        try:
            body = environ["wsgi.input"].read(settings.API_MAX_BODY_BYTES + 1)
        except (ParseException, OSError):
            raise refusal("The chunks of the body are malformed, or end early.") from None
        environ["CONTENT_LENGTH"] = str(len(body))
        request._stream = io.BytesIO(body)  # type: ignore[attr-defined]


def parse(body: bytes) -> dict[str, Any]:
    """A JSON object, with nothing in it that PostgreSQL or another JSON reader would take differently."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refusal(f"The body is not UTF-8 (byte {error.start}).") from None
    is_deep = _is_deep(body)
    try:
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_int=_integer,
            parse_float=_number,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        raise refusal(f"The body is not JSON: {error.msg}, line {error.lineno} column {error.colno}.") from None
    except RecursionError:
        raise too_deep() from None
    if is_deep:
        raise too_deep()
    if not isinstance(value, dict):
        raise refusal("The body must be a JSON object.")
    if "\\u" in text and (pointer := _unstorable(value, "")) is not None:
        message = "Text may contain neither U+0000 nor half of a surrogate pair."
        raise Invalid(message, errors=[Fault(pointer, message)])
    return value


def refusal(message: str) -> Invalid:
    return Invalid(message, errors=[Fault("", message)])


def _is_deep(body: bytes) -> bool:
    """Whether it is nested too deep, or a bracket is not closed. Measured on the brackets alone, a level at a time."""
    bare = STRING.sub(b"", body)
    pairs = bare.translate(BRACKETS, NOT_BRACKETS)
    if bare.count(b",") + len(pairs) > MAX_VALUES:
        raise refusal(f"The body holds more than {MAX_VALUES} values.")
    for _ in range(settings.API_MAX_DEPTH):
        pairs = pairs.replace(b"[]", b"")
        if not pairs:
            return False
    if pairs.startswith(b"[" * (settings.API_MAX_DEPTH + 1)):
        raise too_deep()
    return True


def too_deep() -> Invalid:
    return refusal(f"The body is nested deeper than {settings.API_MAX_DEPTH} levels.")


def _refuse_constant(word: str) -> NoReturn:
    raise refusal(f"{word} is not a JSON number.")


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -MAX_NUMBER <= int(digits) < MAX_NUMBER:
        raise refusal(f"A number is too large: {digits[:24]}….")
    return int(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise refusal(f"A number is too large: {digits[:24]}.")
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise refusal(f"A name occurs twice in one object: {twice[:60]!r}.")
    return found


def _unstorable(value: Any, pointer: str) -> str | None:
    """Where a text is that cannot be kept, or None. Depth has been bounded."""
    if isinstance(value, str):
        return pointer if "\x00" in value or SURROGATE.search(value) else None
    if isinstance(value, list):
        found = (_unstorable(inner, f"{pointer}/{index}") for index, inner in enumerate(value))
    elif isinstance(value, dict):
        found = (_unstorable(key, pointer) or _unstorable(inner, f"{pointer}/{key}") for key, inner in value.items())
    else:
        return None
    return next((place for place in found if place is not None), None)
