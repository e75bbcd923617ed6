"""What a control plane that is measured begins with: a program that is run with the code of its checkout.

Prints `{"token": …, "join": …}`: a member's API token, and what a host joins with.
"""

import hashlib
import json
import secrets
from datetime import timedelta

import django

django.setup()

from django.db import transaction  # noqa: E402
from django.db.models.functions import Now  # noqa: E402

from cloud.events.services import SYSTEM  # noqa: E402
from cloud.hosts.services import make_join_token  # noqa: E402
from cloud.tenancy.models import Membership, Project, Quota, Token, User  # noqa: E402
from compute.models import Flavor  # noqa: E402
from storage.models import Image  # noqa: E402

with transaction.atomic():
    project = Project.objects.create(name="bench")
    Quota.objects.create(project=project, limits={"instances": 1_000_000, "vcpus": None, "memory_mib": None})
    user = User.objects.create_user("bench")
    Membership.objects.create(project=project, user=user, role="member")
    token = f"pileus-{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(token.encode()).hexdigest()
    Token.objects.create(user=user, name="bench", digest=digest, expires_at=Now() + timedelta(days=1))
    Flavor.objects.create(name="tiny", vcpus=1, memory_mib=256, disk_gib=1)
    Image.objects.create(
        name="tiny", architecture="x86_64", hypervisors=["qemu"], files=[], visibility="public", default_user="tiny"
    )
    _, join = make_join_token(actor=SYSTEM)
print(json.dumps({"token": token, "join": join}))
