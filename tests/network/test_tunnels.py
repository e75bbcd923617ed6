"""Where the tunnels of hosts end: networks that span hosts are told, and told again when it changes."""

import pytest

from cloud.hosts.reconcile import reconcile
from cloud.operations.troubles import troubles
from tests.network.clouds import Wired

pytestmark = pytest.mark.django_db(transaction=True)
HERE, THERE, MOVED, THIRD = "192.0.2.7", "192.0.2.8", "192.0.2.9", "192.0.2.10"


@pytest.fixture
def wired(short_path, monkeypatch):
    """A network on two hosts."""
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)
    wired = Wired(short_path)
    says(wired, 1, vtep=THERE)
    wired.plug(0)
    wired.plug(1)
    return wired


def says(wired, at: int, **said: object) -> None:
    """What a host says of its networks from its next heartbeat on."""
    wired.kinds[at][0].said = {"networks": True, **said}
    wired.nodes[at].heartbeat()
    reconcile()


def peers(wired, at: int) -> set[str]:
    return {peer["vtep"] for peer in wired.told(at)[0]["default"]["peers"]}


def test_hosts_of_a_network_are_told_of_each_other_until_one_leaves(short_path, monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)
    wired = Wired(short_path, nodes=3)
    for at, vtep in ((1, THERE), (2, THIRD)):
        says(wired, at, vtep=vtep)
    first, *_ = [wired.plug(at, name=f"web{at}") for at in range(3)]
    assert peers(wired, 0) == peers(wired, 1) == peers(wired, 2) == {HERE, THERE, THIRD}
    wired.unplug(first)
    assert peers(wired, 1) == peers(wired, 2) == {THERE, THIRD}
    assert wired.told(0)[0] == {}, "the network has gone from there"


def test_a_host_with_another_address_is_told_of_and_one_that_is_just_starting_keeps_its_own(wired):
    says(wired, 1, vtep=MOVED)
    assert peers(wired, 0) == peers(wired, 1) == {HERE, MOVED}
    before = wired.told(0)[0]["default"]
    says(wired, 1, networks=False, missing={"process": "it does not answer"})
    assert wired.told(0)[0]["default"] == before
    wired.plug(0, name="third")  # all is told again
    assert peers(wired, 0) == {HERE, MOVED}


def test_a_network_on_a_host_without_tunnels_is_shown_with_what_to_do(short_path, monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)
    wired = Wired(short_path)
    says(wired, 1, vtep="", tunnels="it is run by an ordinary user")
    wired.plug(1)
    assert troubles() == []  # alone there, it needs none
    wired.plug(0)
    (found,) = troubles()
    assert found.title == "Networks whose hosts do not reach each other"
    assert [(case.name, case.words) for case in found.cases] == [("default", "node2: it is run by an ordinary user")]
    says(wired, 1, vtep=THERE)
    assert troubles() == []
    assert peers(wired, 0) == {HERE, THERE}
