"""A whole small cloud inside one test: the control plane's own code, a fake node, and a way to let it all happen."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models.functions import Now
from django.test import Client

from cloud.events.services import SYSTEM, Actor
from cloud.hosts import services as hosts
from cloud.operations import engine
from cloud.operations.invariants import Breach, invariants
from cloud.operations.models import Operation
from compute import services
from compute.models import Instance
from tests import factories
from tests.fakes import FakeNode, django_request

ALICE = Actor("alice")
ROUNDS = 40


class SmallCloud:
    """One project, one flavor, one image, one joined node."""

    def __init__(self, home: Path, *, nodes: int = 1, capacity: dict[str, int] | None = None) -> None:
        self.home, self.capacity = home, capacity
        self.project = factories.project()
        self.flavor = factories.flavor()
        self.image = factories.image(files=[])
        self.nodes = [self.add_node(f"node{number}") for number in range(1, nodes + 1)]

    @property
    def node(self) -> FakeNode:
        return self.nodes[0]

    def add_node(self, name: str) -> FakeNode:
        with transaction.atomic():
            _, secret = hosts.make_join_token(actor=SYSTEM)
        node = FakeNode.join(
            django_request(Client()), token=secret, name=name, home=self.home / name, capacity=self.capacity
        )
        node.heartbeat()
        return node

    def launch(self, **wishes: Any) -> Instance:
        with transaction.atomic():
            return services.launch(
                project=self.project, actor=ALICE, flavor=self.flavor,
                **{"name": factories.name("vm"), "image": self.image, **wishes},
            )  # fmt: skip

    def do(self, verb: Callable[..., Any], instance: Instance, **how: Any) -> Any:
        """One verb's service in a transaction of its own."""
        with transaction.atomic():
            return verb(instance=Instance.objects.get(pk=instance.pk), actor=ALICE, **how)

    def settle(self, advance: Callable[[Any], None] = engine.advance) -> None:
        """Let workers and nodes run, by turns and without a clock, until nothing is under way."""
        for _ in range(ROUNDS):
            live = list(Operation.objects.filter(finished_at=None).values_list("pk", flat=True))
            if not live:
                break
            Operation.objects.filter(pk__in=live).update(due_at=Now())
            for operation_id in live:
                advance(operation_id)
            for node in self.nodes:
                if node.online:
                    node.look()
        else:
            stuck = Operation.objects.filter(finished_at=None).values_list("kind", "step", "reason")
            raise AssertionError(f"still under way after {ROUNDS} rounds: {list(stuck)}")
        for node in self.nodes:
            if node.online:
                node.look()
                node.heartbeat()

    def breaches(self) -> list[Breach]:
        return [breach for item in invariants() for breach in item.check()]

    def running(self) -> set[str]:
        """Ids of all machines whose emulator lives, on whichever node."""
        return {machine for node in self.nodes for machine in node.hypervisor.running()}


def wait_until(
    condition: Callable[[], Any],
    seconds: float = 30,
    every: float = 0.05,
    what: str = "",
    told: Callable[[], str] = str,
) -> Any:
    """The condition's first true value; fails when there is none within the time, with what is `told` then."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition} {told()}".strip())
        time.sleep(every)
    return value


def iso_on(node: FakeNode) -> dict[str, Any]:
    """The file of an ISO, which is in the node's cache of images."""
    content = factories.name("an ISO").encode()
    sha256 = hashlib.sha256(content).hexdigest()
    (node.paths.home / "images" / sha256).write_bytes(content)
    return {"role": "cdrom", "sha256": sha256, "size": len(content), "format": "raw"}
