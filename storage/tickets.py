"""Tickets by which a host gets one image file from the cache of another host, without asking the control plane again.

The control plane writes them, under a key that only it and the serving host know; the serving host reads them. A ticket
is good for one file, for one host to ask, and until its time is up.
"""

import hmac
import re
from hashlib import sha256

_SHAPE = re.compile(r"([0-9]{1,12})\.([0-9a-f-]{36})\.([0-9a-f]{64})")


def write(key: bytes, file: str, host_id: str, until: int) -> str:
    """A ticket for the file with this SHA-256. `host_id`: who asks for it; `until`: seconds since the epoch."""
    return f"{until}.{host_id}.{_seal(key, file, host_id, until)}"


def read(key: bytes, ticket: str, file: str, now: float) -> str:
    """The id of the host that it was written for. Raises PermissionError, whose words say what is wrong with it."""
    match = _SHAPE.fullmatch(ticket)
    if not match:
        raise PermissionError("a ticket is needed")
    until, host_id = int(match[1]), match[2]
    if not hmac.compare_digest(match[3], _seal(key, file, host_id, until)):
        raise PermissionError("the ticket is not for this file of this host")
    if until < now:
        raise PermissionError("the ticket is too old, or the clock of this host is wrong")
    return host_id


def _seal(key: bytes, file: str, host_id: str, until: int) -> str:
    return hmac.new(key, f"{file}\n{host_id}\n{until}".encode(), sha256).hexdigest()
