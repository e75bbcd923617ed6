"""ETags: the hash of a body as it is shown (RFC 9110, section 8.8.3)."""

import hashlib
import json
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from rest_framework.request import Request
from rest_framework.response import Response


def etag(body: Any) -> str:
    """The strong ETag of a body."""
    text = json.dumps(body, cls=DjangoJSONEncoder, sort_keys=True, separators=(",", ":"))
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def matches(header: str, tag: str) -> bool:
    """Whether a list of ETags, or `*`, covers this one."""
    candidates = {candidate.strip() for candidate in header.split(",")}
    return "*" in candidates or tag in candidates


def conditional(request: Request, body: dict[str, Any]) -> Response:
    """A body with its ETag; 304 when the caller has it already."""
    tag = etag(body)
    known = request.headers.get("If-None-Match", "").replace("W/", "")
    if known and matches(known, tag):
        return Response(status=304, headers={"ETag": tag})
    return Response(body, headers={"ETag": tag})
