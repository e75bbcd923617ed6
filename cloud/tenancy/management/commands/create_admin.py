"""`manage.py create_admin NAME`: an admin of the cloud, for who has none yet or has lost the last one."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from cloud.events.services import SYSTEM
from cloud.tenancy import accounts
from cloud.tenancy.models import User


class Command(BaseCommand):
    help = "Make an admin of the cloud, and print the password, which is kept nowhere."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: Any, username: str, **options: Any) -> None:
        if User.objects.filter(username=username).exists():
            raise CommandError(f"there is a user {username} already")
        with transaction.atomic():
            _, password = accounts.create_user(actor=SYSTEM, username=username, is_cloud_admin=True)
        self.stdout.write(f"{username} / {password}")
