"""`manage.py copy_store images|backups FROM TO`: copy a store to another place, and compare."""

import hashlib
import os
import tempfile
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cloud.outgoing import Source
from storage.shipping import Shipping
from storage.store import Directory, Store, StoreAway, bucket, incoming, is_bucket
from storage.vault import Place, place_at

PIECE = 1 << 20
AT_ONCE = 8


class Command(BaseCommand):
    help = "Copy a store from a folder or bucket (s3://NAME/PREFIX) to another one, and compare. Nothing is removed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("what", choices=["images", "backups"])
        parser.add_argument("source", metavar="FROM")
        parser.add_argument("target", metavar="TO")

    def handle(self, *args: Any, what: str, source: str, target: str, **options: Any) -> None:
        try:
            copied, damaged = (copy_images if what == "images" else copy_backups)(source, target)
        except (StoreAway, OSError) as problem:
            raise CommandError(f"{problem}. What was copied stays; run this again.") from problem
        self.stdout.write(f"{copied} copied.")
        if damaged:
            raise CommandError(f"Not copied, as they are damaged where they are: {', '.join(damaged)}")


def copy_images(source: str, target: str) -> tuple[int, list[str]]:
    """How many files were copied, and the names of those that are not what their names say."""
    old, new = _images_at(source), _images_at(target)
    missing = {name for name, _ in old.names()} - {name for name, _ in new.names()}
    incoming().mkdir(parents=True, exist_ok=True)
    damaged = []
    with tempfile.TemporaryDirectory(dir=incoming()) as folder:
        for name in sorted(missing):
            path = Path(folder, name)
            if _copy(old.open(name), path) != name:
                damaged.append(name)
                path.unlink()
                continue
            if isinstance(new, Shipping):
                new.bucket.upload(name, path, name)
                path.unlink()
            else:
                new.keep(path, name)
            if _copy(new.open(name), Path(os.devnull)) != name:
                raise OSError(f"{name} is another file after it was copied")
    return len(missing) - len(damaged), damaged


def _images_at(address: str) -> Store:
    """What waits for a bucket counts as in it."""
    if is_bucket(address):
        return Shipping(bucket(address), incoming() / "waiting")
    return Directory(Path(address))


def _copy(source: Source, target: Path) -> str:
    """The SHA-256 of what was copied."""
    digest = hashlib.sha256()
    with source, target.open("wb") as file:
        while piece := source.read(PIECE):
            digest.update(piece)
            file.write(piece)
        file.flush()
        if target.is_file():
            os.fsync(file.fileno())
    return digest.hexdigest()


def copy_backups(source: str, target: str) -> tuple[int, list[str]]:
    """How many blocks were copied. Whether they are what was backed up is looked at by the clock, as ever."""
    old, new = place_at(source), place_at(target)
    missing = {name for name, _ in old.files()} - {name for name, _ in new.files()}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(partial(_copy_block, old, new), sorted(missing))), []


def _copy_block(old: Place, new: Place, name: str) -> bool:
    try:
        content = old.read(name)
    except FileNotFoundError:  # no backup needs it any more
        return False
    new.write(name, content)
    if new.read(name) != content:
        raise OSError(f"{name} is another file after it was copied")
    return True
