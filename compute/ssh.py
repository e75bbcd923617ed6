"""What both sides of the house know about SSH keys."""

import base64
import hashlib


def fingerprint(public_key: str) -> str:
    """Of a public key `type base64 …`, as `ssh-keygen -l` shows it."""
    blob = base64.b64decode(public_key.split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
