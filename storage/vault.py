"""The store of backups: a folder of encrypted blocks, apart from images and from every host.

Each project has keys of its own, made from one secret of the cloud: one that encrypts, and one under which blocks are
known, so that no project can find out which blocks another one has. Blocks travel and are kept as they were packed.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from storage.agent.blocks import NotABlock, digest_of, unpack
from storage.models import BackupBlock

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


def path_of(block: BackupBlock) -> Path:
    return folder_of(block.project_id) / block.pk.hex[:2] / str(block.pk)


def folder_of(project_id: UUID) -> Path:
    return Path(settings.BACKUP_STORE) / str(project_id)


def keep(block: BackupBlock, packed: bytes) -> int:
    """Encrypt a packed block into its file, and make that durable: how many bytes it has. Raises OSError."""
    nonce = os.urandom(NONCE_BYTES)
    sealed = nonce + keys_of(block.project_id).cipher.encrypt(nonce, packed, _about(block))
    path = path_of(block)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_suffix(".new")
    with partial.open("wb") as file:
        file.write(sealed)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return len(sealed)


def read(block: BackupBlock) -> bytes:
    """The packed block. Raises Damaged; and OSError when the store does not answer."""
    try:
        sealed = path_of(block).read_bytes()
        nonce, content = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        return keys_of(block.project_id).cipher.decrypt(nonce, content, _about(block))
    except FileNotFoundError:
        raise Damaged("its file is missing") from None
    except (InvalidTag, ValueError):
        raise Damaged("its file was changed, or was written under another PILEUS_BACKUP_KEY") from None


def verify(block: BackupBlock) -> None:
    """Read a block back, down to what was on the disk. Raises Damaged, OSError."""
    try:
        found = digest_of(unpack(read(block)), keys_of(block.project_id).digest)
    except NotABlock as problem:
        raise Damaged(str(problem)) from problem
    if found != block.digest:
        raise Damaged("it is not what was backed up")


def remove(*blocks: BackupBlock) -> None:
    for block in blocks:
        path_of(block).unlink(missing_ok=True)


def files() -> Iterator[Path]:
    """All files of the store. Those of blocks are called by the block's id."""
    root = Path(settings.BACKUP_STORE)
    return (path for path in root.glob("*/??/*") if path.is_file()) if root.is_dir() else iter(())


def _about(block: BackupBlock) -> bytes:
    """What a file is bound to: it cannot be put in another one's place."""
    return f"{block.project_id} {block.pk} {block.digest}".encode()
