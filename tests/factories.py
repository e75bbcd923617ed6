"""Rows for tests, made in one line each. A name that does not matter is made up."""

import itertools
import secrets
from datetime import timedelta
from typing import Any

from django.db.models.functions import Now

from cloud.api.authentication import digest
from cloud.hosts.models import Host, HostPulse
from cloud.tenancy.models import Membership, Project, Quota, Role, Token, User
from compute.models import Flavor, Instance, Machine
from storage.models import Image, VolumeType

_numbers = itertools.count(1)


def name(kind: str) -> str:
    return f"{kind}-{next(_numbers)}"


def user(username: str = "", **fields: Any) -> User:
    """A user with the password that is the user's own name, twice."""
    username = username or name("user")
    return User.objects.create_user(username, password=username * 2, **fields)


def project(project_name: str = "", *, limits: dict[str, int | None] | None = None, **fields: Any) -> Project:
    made = Project.objects.create(name=project_name or name("project"), **fields)
    Quota.objects.create(project=made, **({"limits": limits} if limits is not None else {}))
    return made


def member(of: Project, role: str = Role.MEMBER, username: str = "") -> User:
    made = user(username)
    Membership.objects.create(project=of, user=made, role=role)
    return made


def token(of: User, **fields: Any) -> str:
    """An API token's secret."""
    secret = f"pileus-{secrets.token_urlsafe(32)}"
    fields.setdefault("expires_at", Now() + timedelta(days=1))
    Token.objects.create(user=of, name=name("token"), digest=digest(secret), **fields)
    return secret


def flavor(flavor_name: str = "", **fields: Any) -> Flavor:
    size = {"vcpus": 1, "memory_mib": 256, "disk_gib": 1, **fields}
    return Flavor.objects.create(name=flavor_name or name("flavor"), **size)


def volume_type(type_name: str = "", **fields: Any) -> VolumeType:
    return VolumeType.objects.create(name=type_name or name("type"), **fields)


def image(image_name: str = "", **fields: Any) -> Image:
    facts = {"architecture": "x86_64", "hypervisors": ["qemu"], **fields}
    facts.setdefault("visibility", "private" if facts.get("project") else "public")
    return Image.objects.create(name=image_name or name("image"), **facts)


def place(instance: Instance, on: Host, **fields: Any) -> Instance:
    """Put an instance on a host, or look at it there otherwise. `fields` are the machine's: seen, generation, …"""
    Machine.objects.filter(instance=instance).delete()
    instance.machine = Machine.objects.create(instance=instance, host=on, **{"hypervisor": "qemu", **fields})
    instance.save(update_fields=["machine"])
    return instance


def host(host_name: str = "", **fields: Any) -> Host:
    """A host that has just been heard from, and runs x86_64 machines under QEMU."""
    facts = {
        "vcpus": 8,
        "memory_mib": 16 * 1024,
        "disk_gib": 200,
        "offers": ["qemu/x86_64", "qemu/x86_64/tcg"],
        "capabilities": {"hypervisors": {"qemu": {"verbs": ["pause", "suspend", "clone", "cd"]}}},
        "token_digest": secrets.token_hex(32),
        "redis_password_digest": secrets.token_hex(32),
        **fields,
    }
    made = Host.objects.create(name=host_name or name("host"), **facts)
    HostPulse.objects.create(host=made)
    made.refresh_from_db()
    return made
