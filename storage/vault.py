"""The store of backups: encrypted blocks in a folder or a bucket, apart from images and from every host.

Each project has keys of its own, made from one secret of the cloud: one that encrypts, and one under which blocks are
known, so that no project can find out which blocks another one has. Blocks travel and are kept as they were packed.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from storage.agent.blocks import NotABlock, digest_of, unpack
from storage.block_files import Folder
from storage.models import BackupBlock
from storage.store import bucket, is_bucket

KEY_BYTES = 32
NONCE_BYTES = 12


class Damaged(Exception):
    """A file of the store is missing, or not what it was."""


class Keys(NamedTuple):
    """Of a project: under `digest` its blocks are known, under `cipher` they are encrypted."""

    digest: bytes
    cipher: AESGCM


def keys_of(project_id: UUID) -> Keys:
    secret = (settings.BACKUP_KEY or settings.SECRET_KEY).encode()
    made = HKDF(SHA256(), 2 * KEY_BYTES, salt=None, info=f"storage.vault {project_id}".encode()).derive(secret)
    return Keys(made[:KEY_BYTES], AESGCM(made[KEY_BYTES:]))


class Place(Protocol):
    """Where the blocks are, by name: a folder, or a bucket. Raises StoreAway, OSError."""

    def write(self, name: str, content: bytes) -> None:
        """It is durable when this returns; it is there as a whole, or not at all."""

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError."""

    def remove(self, *names: str) -> None:
        """Those that are there."""

    def files(self) -> Iterator[tuple[str, float]]:
        """Every name, and when it was written: seconds since the epoch."""


def place() -> Place:
    """The one that the settings name."""
    return place_at(settings.BACKUP_STORE)


def place_at(address: Path | str) -> Place:
    return bucket(address) if is_bucket(address) else Folder(Path(address))


def name_of(block: BackupBlock) -> str:
    return f"{block.project_id}/{block.pk.hex[:2]}/{block.pk}"


def keep(block: BackupBlock, packed: bytes) -> int:
    """Encrypt a packed block into its file, and make that durable: how many bytes it has. Raises StoreAway, OSError."""
    nonce = os.urandom(NONCE_BYTES)
    sealed = nonce + keys_of(block.project_id).cipher.encrypt(nonce, packed, _about(block))
    place().write(name_of(block), sealed)
    return len(sealed)


def read(block: BackupBlock) -> bytes:
    """The packed block. Raises Damaged; and StoreAway or OSError when the store does not answer."""
    try:
        sealed = place().read(name_of(block))
        nonce, content = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        return keys_of(block.project_id).cipher.decrypt(nonce, content, _about(block))
    except FileNotFoundError:
        raise Damaged("its file is missing") from None
    except (InvalidTag, ValueError):
        raise Damaged("its file was changed, or was written under another PILEUS_BACKUP_KEY") from None


def verify(block: BackupBlock) -> None:
    """Read a block back, down to what was on the disk. Raises Damaged, StoreAway, OSError."""
    try:
        found = digest_of(unpack(read(block)), keys_of(block.project_id).digest)
    except NotABlock as problem:
        raise Damaged(str(problem)) from problem
    if found != block.digest:
        raise Damaged("it is not what was backed up")


def remove(*blocks: BackupBlock) -> None:
    if blocks:
        place().remove(*map(name_of, blocks))


def _about(block: BackupBlock) -> bytes:
    """What a file is bound to: it cannot be put in another one's place."""
    return f"{block.project_id} {block.pk} {block.digest}".encode()
