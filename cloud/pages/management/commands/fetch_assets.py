"""`manage.py fetch_assets`: lay the dashboard's third-party files below the static root."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cloud.pages import assets


class Command(BaseCommand):
    requires_system_checks = ()  # images are built without settings and keys
    help = "Fetch the pinned front-end packages from the npm registry (or the cache); prints what is still missing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--strict", action="store_true", help="fail when a package is missing in the end")

    def handle(self, *args: Any, **options: Any) -> None:
        missing = []
        for package in assets.SERVED:
            if assets.is_laid_out(package):
                continue
            try:
                assets.lay_out(package)
            except assets.NotFetched as error:
                self.stderr.write(f"{error}. The dashboard works without it, but does not update by itself.")
                self.stdout.write(f"{package.name} {package.version}")
                missing.append(package.name)
        if missing and options["strict"]:
            raise CommandError(f"not fetched: {', '.join(missing)}")
