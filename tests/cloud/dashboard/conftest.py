"""One project with one of everything, and pages as each person sees them."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from django.db import transaction
from django.test import Client

from cloud.events.services import Actor
from cloud.hosts.models import Host
from cloud.operations.models import Operation
from cloud.tenancy.models import Project, User
from compute import services
from compute.models import WISHES, ConsoleLog, Flavor, Instance, KeyPair
from storage.models import Image
from tests import factories
from tests.cloud.dashboard.reading import Reader

ALICE = Actor("alice")


def sign_in(user: User | None) -> Client:
    """A browser without JavaScript, signed in as somebody."""
    client = Reader(raise_request_exception=False)
    if user is not None:
        client.force_login(user)
    return client


@pytest.fixture
def page_of() -> Callable[[User | None], Client]:
    return sign_in


@dataclass
class World:
    project: Project
    host: Host
    flavor: Flavor
    image: Image
    keypair: KeyPair
    instance: Instance

    def launch(self, name: str = "", **wishes) -> Instance:
        with transaction.atomic():
            return services.launch(
                project=self.project, actor=ALICE, name=name or factories.name("vm"), flavor=self.flavor,
                image=self.image, **wishes,
            )  # fmt: skip

    def settle(self, instance: Instance, power: str = "running") -> Instance:
        """As if its host had seen it so, and its work were done."""
        Operation.objects.filter(subject_id=instance.pk, finished_at=None).update(
            outcome="done", finished_at=instance.created_at
        )
        instance.refresh_from_db()
        if machine := instance.machine:
            machine.seen, machine.seen_generation = power, machine.generation
            machine.save()
        instance.wanted_power = power if power in WISHES else "stopped"
        instance.save()
        return instance


@pytest.fixture
def world(project: Project) -> World:
    return one_of_everything(project)


def one_of_everything(project: Project) -> World:
    key = KeyPair.objects.create(project=project, name="laptop", public_key="ssh-ed25519 AAAA", fingerprint="SHA256:x")
    made = World(project, factories.host("node1"), factories.flavor("small"), factories.image("tiny"), key, None)  # type: ignore[arg-type]
    made.instance = made.settle(made.launch("web"))
    ConsoleLog.objects.create(instance=made.instance, content=b"Linux version 6.1\nREADY web 2.31\n")
    return made
