"""How every kind of operation on a thing comes about."""

from typing import Any
from uuid import UUID

from django.db import transaction

from cloud.hosts.models import Allocation
from tests import factories
from tests.clouds import ALICE, SmallCloud
from tests.scenarios import Scenario, after
from tests.things import services
from tests.things.models import Thing
from tests.things.node import ThingNode


class Things:
    """Things as subjects: what is ready occupies room."""

    def seen(self, subject_id: UUID) -> str | None:
        return Thing.objects.filter(pk=subject_id).values_list("seen", flat=True).first()

    def delete(self, cloud: SmallCloud, subject_id: UUID) -> None:
        remove(cloud, Thing.objects.get(pk=subject_id))

    def check(self, cloud: SmallCloud, subject_id: UUID) -> None:
        assert Allocation.of("thing", subject_id).exists() == (self.seen(subject_id) == "ready")


def make(cloud: SmallCloud, **wishes: Any) -> Thing:
    with transaction.atomic():
        return services.make(project=cloud.project, name=factories.name("thing"), actor=ALICE, **wishes)


def remove(cloud: SmallCloud, thing: Thing) -> None:
    with transaction.atomic():
        services.remove(thing=thing, actor=ALICE)


def some_host(cloud: SmallCloud) -> ThingNode:
    """The host of things, as one of the cloud's nodes; it joins when it is first asked for."""
    if not isinstance(cloud.nodes[-1], ThingNode):
        cloud.nodes.append(ThingNode())
    return cloud.nodes[-1]


def ready(cloud: SmallCloud) -> Thing:
    some_host(cloud)
    thing = make(cloud)
    cloud.settle()
    return thing


SCENARIOS = [
    Scenario(
        "things.make", Things(), ready, lambda cloud, other: make(cloud, needs=other), after=after("ready", "gone")
    ),
    Scenario("things.remove", Things(), ready, remove, after=after(None, otherwise="ready")),
]
