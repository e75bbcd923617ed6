"""Machines that are ordered together with their networks: they begin once these are made, with the fake hypervisor."""

import contextlib
import threading
import uuid

import pytest

from agent import orders
from agent.errors import Abandoned
from agent.work import Work
from network.agent import awaiting
from tests.clouds import wait_until
from tests.hosts import make_spec
from tests.network.fakes import give_networks

NETWORK = str(uuid.uuid4())


@pytest.fixture
def networks(node):
    return give_networks(node)[0]


@pytest.fixture
def machine():
    nic = {"port": "p", "network": "n", "mac": "52:54:00:00:00:01", "mtu": 1450, "addresses": ["10.0.0.5/24"]}
    return make_spec(nics=[nic | {"awaits": {"id": NETWORK, "generation": 2}}])


class Obeying:
    """An order that is obeyed beside the test."""

    def __init__(self, node, control_plane, verb, spec, generation=1, of="instance"):
        order = control_plane.order(verb, spec, generation, of)
        self.work = Work(order)
        self.thread = threading.Thread(target=self._obey, args=(node, order))
        self.thread.start()

    def _obey(self, node, order):
        with contextlib.suppress(Abandoned):
            orders.obey(node.tools, order, self.work)

    def done(self):
        self.thread.join(30)
        assert not self.thread.is_alive()


@pytest.fixture
def begin(node, control_plane, networks, machine):
    """Begin to obey an order of the machine, and come to where it waits."""
    begun = []

    def give(verb="ensure_running", generation=1):
        begun.append(Obeying(node, control_plane, verb, machine, generation))
        wait_until(lambda: waits(node, machine), 30, 0.01)
        return begun[-1]

    yield give
    for order in begun:
        order.work.abandon()
        order.done()


def waits(node, machine) -> bool:
    entry = node.ledger.get(node.machine(machine["id"]).key)
    return entry is not None and entry.order is not None and node.home(machine["id"]).directory.exists()


def make_network(node, control_plane, generation):
    Obeying(node, control_plane, "ensure_present", {"id": NETWORK}, generation, "network").done()


def test_it_begins_once_its_network_has_been_made_as_it_needs_it(node, control_plane, machine, begin):
    order = begin()
    make_network(node, control_plane, 1)
    assert node.hypervisor.running() == set()
    make_network(node, control_plane, 3)
    order.done()
    assert node.hypervisor.running() == {machine["id"]}
    assert node.entry(machine["id"]).seen == "running"


def test_a_network_that_its_host_cannot_make_is_its_reason(node, control_plane, networks, machine, begin):
    networks.broken = "no such luck"
    order = begin()
    make_network(node, control_plane, 2)
    order.done()
    entry = node.entry(machine["id"])
    assert (entry.seen, entry.facts["problem"]) == ("broken", "this host cannot make its network: no such luck")
    networks.broken = ""
    make_network(node, control_plane, 3)
    Obeying(node, control_plane, "ensure_running", machine, 2).done()
    assert node.entry(machine["id"]).seen == "running"


def test_a_network_that_never_comes_is_its_reason(node, control_plane, machine, begin, monkeypatch):
    monkeypatch.setattr(awaiting, "MAX_SECONDS", 0.5)
    begin().done()
    entry = node.entry(machine["id"])
    assert entry.seen == "broken"
    assert entry.facts["problem"].startswith("this host has not made its network in")


@pytest.mark.parametrize("verb", ["ensure_stopped", "ensure_gone"])
def test_a_newer_order_takes_over_from_one_that_waits(node, control_plane, machine, begin, verb):
    order = begin()
    order.work.abandon()
    Obeying(node, control_plane, verb, machine, 2).done()
    order.done()
    assert node.entry(machine["id"]).seen == verb.removeprefix("ensure_")
    assert node.hypervisor.running() == set()


def test_the_next_worker_goes_on_waiting(node, control_plane, machine, begin):
    order = begin()
    order.work.abandon()
    order.done()
    assert node.entry(machine["id"]).order is not None, "it is left for the next one"
    make_network(node, control_plane, 2)
    node.look()
    assert node.hypervisor.running() == {machine["id"]}
    assert control_plane.last(machine["id"])["seen"] == "running"


def test_it_does_not_wait_for_what_is_there(node, control_plane, networks, machine):
    make_network(node, control_plane, 2)
    networks.broken = "it is not made again"
    for generation, verb in enumerate(("ensure_running", "ensure_stopped", "ensure_running", "ensure_suspended"), 1):
        Obeying(node, control_plane, verb, machine, generation).done()
        assert node.entry(machine["id"]).seen == verb.removeprefix("ensure_")


def test_what_waits_leaves_room_for_what_it_waits_for(node, control_plane, networks, machine, monkeypatch):
    monkeypatch.setattr(orders, "MAX_IN_HAND", 1)
    threads = []

    def spawn(task):
        threads.append(threading.Thread(target=task))
        threads[-1].start()

    node._orders._spawn = spawn
    control_plane.order("ensure_running", machine, 1)
    node.look()
    wait_until(lambda: waits(node, machine), 30, 0.01)
    control_plane.order("ensure_present", {"id": NETWORK}, 2, "network")
    try:
        wait_until(lambda: node.look() == 0 and node.hypervisor.running() == {machine["id"]}, 30, 0.05)
    finally:
        node._orders.abandon()
        for thread in threads:
            thread.join(30)
