"""Hosts join, beat, and are taken in and out of service."""

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

import redis
import structlog
from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.db.models.functions import Now

from cloud.events.services import Actor, record
from cloud.hosts import load as loads
from cloud.hosts import redis_acl, silence
from cloud.hosts.models import Host, HostPulse, JoinToken
from cloud.hosts.resources import kind_of, kinds
from cloud.hosts.room import offer_room
from cloud.problems import Problem

log = structlog.get_logger(__name__)

JOIN_TOKEN_LIFE = timedelta(hours=1)


class HostRefused(Problem):
    """The machine may not join."""

    status: ClassVar[int] = 401
    code: ClassVar[str] = "unauthenticated"
    title: ClassVar[str] = "The join token is not valid"
    fix_by: ClassVar[Any] = "operator"


class HostConflict(Problem):
    """The host cannot be made, or cannot be removed, as things are."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "conflict"
    title: ClassVar[str] = "The host is in the way of something"
    fix_by: ClassVar[Any] = "operator"


@dataclass(frozen=True)
class Credentials:
    """What a host gets once, when it joins."""

    token: str
    redis_password: str


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def make_join_token(*, actor: Actor, life: timedelta = JOIN_TOKEN_LIFE) -> tuple[JoinToken, str]:
    """A new one-time join token and its secret, which is kept nowhere."""
    secret = f"pileus-join-{secrets.token_urlsafe(32)}"
    token = JoinToken.objects.create(digest=digest(secret), expires_at=Now() + life, created_by=actor.name)
    token.refresh_from_db()
    record("hosts.join_token.create", token, actor=actor, after={"expires_at": token.expires_at})
    return token, secret


def revoke_join_token(token: JoinToken, *, actor: Actor) -> None:
    """Nobody joins with it any more."""
    record("hosts.join_token.delete", token, actor=actor, before={"expires_at": token.expires_at})
    token.delete()


@transaction.atomic
def join(
    *, token: str, name: str, capacity: Mapping[str, int], capabilities: Mapping[str, Any]
) -> tuple[Host, Credentials]:
    """Turn a one-time token into a host with credentials of its own."""
    unused = (
        JoinToken.objects.select_for_update().filter(digest=digest(token), used_at=None, expires_at__gt=Now()).first()
    )
    if unused is None:
        raise HostRefused("It is unknown, used or expired. An admin makes a new one: POST /api/v1/hosts/join-tokens.")
    credentials = Credentials(f"pileus-host-{secrets.token_urlsafe(32)}", secrets.token_urlsafe(24))
    try:
        with transaction.atomic():
            host = Host.objects.create(
                name=name,
                vcpu_overcommit=settings.VCPU_OVERCOMMIT,
                token_digest=digest(credentials.token),
                redis_password_digest=digest(credentials.redis_password),
                **_described(capacity, capabilities),
            )
    except IntegrityError as taken:
        raise HostConflict(
            f"A host named {name} is here already. Join under another name, or remove that one."
        ) from taken
    HostPulse.objects.create(host=host)
    JoinToken.objects.filter(pk=unused.pk).update(used_at=Now(), host=host)
    host.refresh_from_db()
    for kind in kinds():
        kind.described(host, capabilities)
    record("hosts.host.join", host, actor=Actor(f"host {name}"), after={"name": name, **capacity})
    transaction.on_commit(lambda: _allow_in_redis(host), robust=True)
    return host, credentials


def _allow_in_redis(host: Host) -> None:
    try:
        redis_acl.allow(host)
    except redis.RedisError as error:
        log.warning("host.redis_login_delayed", host=host.name, error=str(error))


@transaction.atomic
def beat(
    host: Host,
    *,
    boot_id: str,
    agent_version: str,
    capacity: Mapping[str, int],
    capabilities: Mapping[str, Any],
    inventory: list[dict[str, Any]],
    problems: Sequence[Mapping[str, Any]] = (),
    load: Mapping[str, float] | None = None,
) -> list[dict[str, str]]:
    """Note a heartbeat. Returns what is on the host and owned by no row; destroys nothing."""
    silence.end(host)
    HostPulse.objects.filter(host=host).update(
        seen_at=Now(), agent_version=agent_version[:40], inventory=inventory, problems=list(problems), load=load
    )
    if load:
        loads.note(host, load)
    now = {"boot_id": boot_id, **_described(capacity, capabilities)}
    if changed := [name for name, value in now.items() if getattr(host, name) != value]:
        Host.objects.filter(pk=host.pk).update(**{name: now[name] for name in changed})
        for kind in kinds():
            kind.described(host, capabilities)
        offer_room()
    return _unowned(host, inventory)


def _unowned(host: Host, inventory: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    by_type: dict[str, set[UUID]] = {}
    for item in inventory:
        if item["seen"] == "gone":
            continue
        by_type.setdefault(item["type"], set()).add(UUID(item["id"]))
    unowned = []
    for resource_type, ids in by_type.items():
        kind = kind_of(resource_type)
        owned = kind.owned(host, ids) if kind else set()
        unowned += [{"type": resource_type, "id": str(strange)} for strange in sorted(ids - owned)]
    return unowned


def _described(capacity: Mapping[str, int], capabilities: Mapping[str, Any]) -> dict[str, Any]:
    offered = [kind.offers(capabilities) for kind in kinds()]
    return {
        "vcpus": capacity["vcpus"],
        "memory_mib": capacity["memory_mib"],
        "disk_gib": capacity["disk_gib"],
        "capabilities": dict(capabilities),
        "offers": sorted(frozenset().union(*(each.names for each in offered))),
        "accelerated": any(each.accelerated for each in offered),
    }


def update(
    host: Host, *, actor: Actor, enabled: bool | None = None, vcpu_overcommit: float | None = None,
    labels: Mapping[str, str] | None = None,
) -> Host:  # fmt: skip
    """Change what an admin decides about a host. Enabling it also lifts a quarantine."""
    host = Host.objects.select_for_update().get(pk=host.pk)
    if enabled and host.lost_at:
        raise HostConflict(f"{host.name} is declared lost. Remove it, and have the machine join again.")
    quarantined = "" if enabled and host.quarantined else None
    wanted = {
        "enabled": enabled,
        "quarantined": quarantined,
        "vcpu_overcommit": vcpu_overcommit,
        "labels": labels,
    }
    after = {name: value for name, value in wanted.items() if value is not None}
    before = {name: getattr(host, name) for name in after}
    for name, value in after.items():
        setattr(host, name, value)
    host.save(update_fields=list(after) or None)
    host.refresh_from_db()
    record("hosts.host.update", host, actor=actor, before=before, after=after)
    offer_room()
    return host


def remove(host: Host, *, actor: Actor) -> None:
    """Forget a host that holds nothing. Its credentials die with the row."""
    host = Host.objects.select_for_update().get(pk=host.pk)
    record("hosts.host.delete", host, actor=actor, before={"name": host.name})
    login = redis_acl.username(host)  # of a row that is gone there is no name
    try:
        with transaction.atomic():
            finished = host.orders.all() if host.lost_at else host.orders.filter(answered_at__isnull=False)
            finished.delete()
            host.delete()
    except models.ProtectedError as held:
        words = "They are given up by and by." if host.lost_at else "Move or delete them first."
        raise HostConflict(f"{host.name} still holds {len(held.protected_objects)} objects. {words}") from held
    transaction.on_commit(lambda: redis_acl.revoke(login), robust=True)
