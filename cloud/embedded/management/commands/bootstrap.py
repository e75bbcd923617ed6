"""`manage.py bootstrap`: the first admin, the project `demo` with a member, starter flavors, guest images.

It reads its wishes as JSON from standard input, so that no password is in a command line:

    {"admin": {"username", "password", "token"}, "demo": {…}, "set_passwords": false, "images": [DIR…]}

Run again it keeps what is there: users, project and flavors come into a cloud without users only, all in one
transaction, so an interrupted run leaves nothing half made. `set_passwords` is for who has lost them. The answer on
standard output has a token for each of the two: `null` where the given one still works, or the user is gone.
"""

import json
import sys
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from cloud.api.authentication import digest
from cloud.embedded.starters import FLAVORS, PROJECT, TOKEN_NAME
from cloud.events.services import SYSTEM
from cloud.tenancy import accounts, services
from cloud.tenancy.models import Role, Token, User
from compute import flavors

TOKEN_LIFE = timedelta(days=3650)


class Command(BaseCommand):
    help = "Make what a new cloud begins with (wishes come as JSON on standard input)."

    def handle(self, *args: Any, **options: Any) -> None:
        wish = json.load(sys.stdin)
        with transaction.atomic():
            if not User.objects.exists():
                furnish(wish["admin"], wish["demo"])
            elif wish.get("set_passwords"):
                set_passwords(wish["admin"], wish["demo"])
            answer = {who: {"token": new_token(wish[who])} for who in ("admin", "demo")}
        if wish.get("images"):
            call_command("import_images", *wish["images"], stdout=self.stderr)
        self.stdout.write(json.dumps(answer))


def furnish(admin: dict[str, str], demo: dict[str, str]) -> None:
    """Everything that a cloud without users gets."""
    boss, _ = accounts.create_user(
        actor=SYSTEM, username=admin["username"], password=admin["password"], is_cloud_admin=True
    )
    tenant, _ = accounts.create_user(actor=SYSTEM, username=demo["username"], password=demo["password"])
    project = services.create_project(
        actor=SYSTEM, name=PROJECT, description="Made by ./pileus up, to look around in.", admin=boss
    )
    services.add_member(project=project, actor=SYSTEM, user=tenant, role=Role.MEMBER)
    for name, size in FLAVORS.items():
        flavors.create(
            actor=SYSTEM,
            size={
                "name": name,
                "vcpus": size.vcpus,
                "memory_mib": size.memory_mib,
                "disk_gib": size.disk_gib,
                "price_per_hour": Decimal(size.price_per_hour),
            },
        )


def set_passwords(*logins: dict[str, str]) -> None:
    for login in logins:
        if user := User.objects.filter(username=login["username"]).first():
            accounts.update_user(user=user, actor=SYSTEM, changes={"password": login["password"]})


def new_token(login: dict[str, str]) -> str | None:
    """A token instead of one that does not work any more."""
    user = User.objects.filter(username=login["username"], is_active=True).first()
    works = Token.objects.filter(user=user, digest=digest(login["token"]), expires_at__gt=Now())
    if user is None or works.exists():
        return None
    for old in Token.objects.filter(user=user, name=TOKEN_NAME):
        accounts.revoke_token(token=old, actor=SYSTEM)
    _, secret = accounts.create_token(user=user, actor=SYSTEM, name=TOKEN_NAME, expires_at=timezone.now() + TOKEN_LIFE)
    return secret
