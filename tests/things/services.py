"""What may be done with things."""

from cloud.events.services import Actor, record
from cloud.hosts.hosted import raise_generation
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.tenancy.models import Project
from tests.things.models import Thing
from tests.things.workflows import MakeThing, RemoveThing


def make(*, project: Project, name: str, actor: Actor, needs: Thing | None = None) -> Thing:
    thing = Thing.objects.create(project=project, name=name, needs=needs)
    engine.start(MakeThing, thing, actor=actor)
    record("things.thing.make", thing, actor=actor, after={"name": name})
    return thing


def make_again(*, thing: Thing, actor: Actor) -> Operation:
    operation = engine.start(MakeThing, thing, actor=actor, step="make")
    raise_generation(Thing.objects.select_for_update().get(pk=thing.pk))
    return operation


def remove(*, thing: Thing, actor: Actor) -> Operation:
    operation = engine.start(RemoveThing, thing, actor=actor)
    raise_generation(Thing.objects.select_for_update().get(pk=thing.pk))
    record("things.thing.remove", thing, actor=actor)
    return operation
