"""`manage.py verify [--repair]`: check that the database and the hosts agree."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from cloud.operations.invariants import invariants, put_right


class Command(BaseCommand):
    help = "Check the database and the hosts for consistency; exit 1 if a check fails."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--repair", action="store_true", help="repair what can be repaired")

    def handle(self, *args: Any, repair: bool, **options: Any) -> None:
        broken = 0
        for item in invariants():
            breaches = list(item.check())
            broken += len(breaches)
            mark = self.style.ERROR("FAILED") if breaches else self.style.SUCCESS("ok    ")
            self.stdout.write(f"{mark}  {item.code:<3}  {item.promise}")
            for breach in breaches:
                self.stdout.write(f"        {breach.subject_id}  {breach.words}")
                if breach.advice:
                    self.stdout.write(f"          {breach.advice}")
                if repair and breach.repair:
                    problem = put_right(breach)
                    self.stdout.write("          " + (f"not repaired: {problem}" if problem else "being repaired"))
        if broken:
            self.stderr.write(f"{broken} problem{'s' if broken > 1 else ''} found")
            raise SystemExit(1)
