"""What is special about things on hosts: almost nothing."""

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from cloud.events.services import SYSTEM
from cloud.hosts.hosted import GONE, UNKNOWN
from cloud.hosts.resources import HostedResource, Offers, register
from cloud.operations import engine
from tests.things.models import Thing
from tests.things.services import make_again

noticed: list[tuple[str, str]] = []  # what was seen before and after, for tests


def spec(thing: Thing, verb: str) -> dict[str, Any]:
    return {"id": str(thing.pk), "name": thing.name, "needs": str(thing.needs_id) if thing.needs_id else None}


def reconcile() -> None:
    for thing in Thing.objects.filter(host__isnull=False, seen__in=(UNKNOWN, GONE)).order_by("pk"):
        try:
            with transaction.atomic():
                make_again(thing=thing, actor=SYSTEM)
        except engine.Busy:
            continue


def offers(capabilities: Mapping[str, Any]) -> Offers:
    return Offers(frozenset({"things"}) if capabilities.get("things") else frozenset())


register(
    HostedResource(
        type="thing",
        model=Thing,
        states=frozenset({"ready"}),
        spec=spec,
        noticed=lambda thing, before: noticed.append((before, thing.seen)),
        reconcile=reconcile,
        offers=offers,
    )
)
