"""`manage.py import_images DIR…`: offer built guest images to every project."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cloud.events.services import SYSTEM
from storage import services


class Command(BaseCommand):
    help = "Take built images (each a directory with image.json) into the image store, and publish them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("directories", nargs="+", type=Path, metavar="DIR")

    def handle(self, *args: Any, directories: list[Path], **options: Any) -> None:
        for directory in directories:
            try:
                description = json.loads((directory / "image.json").read_text())
                for file in description["files"]:
                    services.keep_file(directory / file["file"], file["sha256"])
                image = services.publish_image(description, actor=SYSTEM)
            except (OSError, ValueError, KeyError) as error:
                raise CommandError(f"{directory}: {error}") from error
            self.stdout.write(f"{image.name}: {image.size / 2**20:.1f} MiB")
