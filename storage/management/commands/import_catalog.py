"""`manage.py import_catalog [NAME…]`: offer systems' own cloud images to every project; without names, list them."""

from argparse import ArgumentParser
from typing import Any

import httpx
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from cloud.events.services import SYSTEM
from images.catalog import Entry, checksum, entries, find
from storage.models import Image
from storage.services import images

MAX_SUMS = 4 << 20


class Command(BaseCommand):
    help = "Have a host fetch images that systems publish for clouds, and offer them to every project."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="name or name:version")

    def handle(self, *args: Any, names: list[str], **options: Any) -> None:
        if not names:
            for entry in entries():
                self.stdout.write(f"{entry.reference:20} {entry.properties.get('description', '')}")
            return
        for name in names:
            found = find(name)
            if found is None:
                raise CommandError(f"The catalog has no {name}.")
            self.stdout.write(self.bring(found))

    def bring(self, entry: Entry) -> str:
        there = Image.objects.filter(project=None, name=entry.name, version=entry.version, trashed_at=None)
        if there.exists():
            return f"{entry.reference} is there already: delete it first to fetch it anew."
        source = {"kind": "url", "url": entry.url, "format": entry.format}
        if entry.sums:
            source["sha256"] = self.sum_of(entry)
        with transaction.atomic():
            images.begin(
                project=None, actor=SYSTEM, name=entry.name, version=entry.version, source=source, **entry.properties
            )
        return f"{entry.reference} is being fetched: the list of images shows how far it is."

    def sum_of(self, entry: Entry) -> str:
        try:
            answer = httpx.get(entry.sums, follow_redirects=True, timeout=30)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise CommandError(f"{entry.sums}: {error}") from error
        found = checksum(answer.text[:MAX_SUMS], entry.filename)
        if not found:
            raise CommandError(f"{entry.sums} does not have {entry.filename}.")
        return found
