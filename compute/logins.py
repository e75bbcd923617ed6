"""How somebody gets in to a new instance: by keys, by a password, or by what its user data says.

A password is never kept, only its hash, which the seed gives to the guest. One that is generated for a request with an
idempotency key is derived from it, so that a repeated request gives it again (docs/decisions/0026).
"""

import hashlib
import hmac
import re
import secrets
from base64 import b32encode
from typing import Any

from django.conf import settings
from passlib.hash import sha512_crypt

from compute import user_data as checks

MIN_PASSWORD, MAX_PASSWORD = 8, 128  # characters
# Guests that are emulated check it, too: more rounds take them seconds. cloud-init knows this form, without `rounds=`.
ROUNDS = 5000
NOBODY = "Nobody can log in: it gets no key pair and no password. Its user data says nothing of them either."
# Of a cloud-config: what lets somebody in.
WAYS_IN = re.compile(
    r"^(password|chpasswd|users|user|ssh_authorized_keys|ssh-authorized-keys|ssh_import_id|runcmd|bootcmd|write_files)\s*:",
    re.MULTILINE,
)


def generated(*origin: str) -> str:
    """A password of 100 bits, easy to type: "k7wq2-…". Of the same origin the same one; without an origin a new one."""
    key = settings.SECRET_KEY.encode()
    content = "\0".join(("password of a launch", *origin)).encode()
    random = hmac.digest(key, content, hashlib.sha256) if origin else secrets.token_bytes(20)
    letters = b32encode(random).decode().lower()[:20]
    return "-".join(letters[at : at + 5] for at in range(0, 20, 5))


def hashed(password: str) -> str:
    """As /etc/shadow has it: sha512-crypt."""
    return str(sha512_crypt.using(rounds=ROUNDS).hash(password))


def matches(password: str, password_hash: str) -> bool:
    return bool(password_hash) and bool(sha512_crypt.verify(password, password_hash))


def warnings(*, keypairs: Any, password: Any, user_data: str) -> list[str]:
    """What is odd about a launch, in words: that nobody could log in. A script may do anything, and is believed."""
    if keypairs or password:
        return []
    says_nothing = not user_data.strip()
    is_document = checks.kind_of(user_data) == checks.CLOUD_CONFIG
    return [NOBODY] if says_nothing or (is_document and not WAYS_IN.search(user_data)) else []
