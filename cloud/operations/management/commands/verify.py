"""`manage.py verify [--repair]`: prove that what must always hold does hold."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from cloud.operations.invariants import invariants, put_right


class Command(BaseCommand):
    help = "Check the invariants against rows and host inventories; exit 1 if one is broken."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--repair", action="store_true", help="open the operations that put breaches right")

    def handle(self, *args: Any, repair: bool, **options: Any) -> None:
        broken = 0
        for item in invariants():
            breaches = list(item.check())
            broken += len(breaches)
            mark = self.style.ERROR("broken") if breaches else self.style.SUCCESS("holds ")
            self.stdout.write(f"{mark}  {item.code}  {item.promise}")
            for breach in breaches:
                self.stdout.write(f"        {breach.subject_id}  {breach.words}")
                if breach.advice:
                    self.stdout.write(f"          {breach.advice}")
                if repair and breach.repair:
                    problem = put_right(breach)
                    self.stdout.write("          " + (f"not repaired: {problem}" if problem else "being repaired"))
        if broken:
            self.stderr.write(f"{broken} breach{'es' if broken > 1 else ''}")
            raise SystemExit(1)
