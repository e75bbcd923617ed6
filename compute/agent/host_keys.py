"""The SSH host key of a machine, which its host makes: so it is known before the first login.

A guest would take a tenth of a second for it under emulation. Source: OpenSSH's PROTOCOL.key; RFC 8709.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import SSHPrivateKeyTypes

from agent import folders

MAX_BYTES = 4096


@dataclass(frozen=True)
class HostKey:
    """An ed25519 key: `private` as OpenSSH keeps it in a file, `public` as it stands in known_hosts."""

    private: str
    public: str


def make() -> HostKey:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return HostKey(private.decode(), _public(key))


def read(file: Path) -> HostKey | None:
    """The key in this file. None: the machine was made by a version that left host keys to its guest."""
    with contextlib.suppress(FileNotFoundError):
        private = folders.read_file(file, MAX_BYTES)
        return HostKey(private.decode(), _public(serialization.load_ssh_private_key(private, password=None)))
    return None


def fact(file: Path) -> dict[str, str]:
    """What a host reports of it."""
    key = read(file)
    return {"ssh_host_key": key.public} if key else {}


def _public(key: SSHPrivateKeyTypes) -> str:
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return public.decode()
