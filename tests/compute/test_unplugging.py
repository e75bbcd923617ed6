"""NICs of instances that come back from the trash: as they were, as far as that is still free."""

import pytest

from compute import services
from compute.networking import Nic
from network.models import AddressPool, FloatingIP, Port
from network.services import networks, ports
from tests.network.clouds import Wired

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def wired(short_path):
    return Wired(short_path)


def address_of(instance):
    return Port.objects.get(holder_id=instance.pk).addresses.get().address


def test_its_address_is_free_and_it_gets_it_back_if_nobody_has_it(wired):
    instance = wired.launch(name="web")
    wired.settle()
    address = address_of(instance)
    wired.do(services.discard, instance)
    wired.settle()
    assert not Port.objects.filter(holder_type="instance").exists()
    operation = wired.do(services.restore, instance)
    assert (address_of(instance), operation.parameters["notes"]) == (address, [])
    wired.settle()
    wired.do(services.discard, instance)
    wired.settle()
    other = wired.launch(name="other")
    assert address_of(other) == address
    operation = wired.do(services.restore, instance)
    assert address_of(instance) != address
    assert operation.parameters["notes"] == [f"{address} on default is taken by now: it has a new address there."]
    wired.settle()
    assert wired.breaches() == []


def test_a_floating_ip_that_led_to_it_is_named(wired):
    instance = wired.launch(name="web")
    wired.settle()
    pool = AddressPool.objects.create(name="outside", cidr="203.0.113.0/24")
    made = FloatingIP.objects.create(
        project=wired.project, pool=pool, name="door", address="203.0.113.9",
        target=Port.objects.get(holder_id=instance.pk).addresses.get(),
    )  # fmt: skip
    wired.do(services.discard, instance)
    wired.settle()
    made.refresh_from_db()
    assert made.target is None
    operation = wired.do(services.restore, instance)
    assert operation.parameters["notes"] == ["The floating IP 203.0.113.9 led to it. Associate it again."]
    wired.settle()


def test_it_comes_back_without_a_network_that_is_gone(wired):
    instance = wired.launch(name="web")
    wired.settle()
    wired.do(services.discard, instance)
    wired.settle()
    network = wired.network
    wired.change(networks.delete, network=network, cascade=True)
    operation = wired.do(services.restore, instance)
    assert operation.parameters["notes"] == ["A network that it was on no longer exists."]
    wired.settle()
    instance.refresh_from_db()
    assert instance.seen == "running"


def test_a_port_of_ones_own_is_free_meanwhile(wired):
    port = wired.change(ports.create, network=wired.network, name="mine")
    instance = wired.launch(networks=[Nic(port=port)])
    wired.settle()
    wired.do(services.discard, instance)
    wired.settle()
    port.refresh_from_db()
    assert port.holder_id is None
    wired.do(services.restore, instance)
    port.refresh_from_db()
    assert port.holder_id == instance.pk
    wired.do(services.discard, instance)
    wired.settle()
    wired.launch(name="other", networks=[Nic(port=port)])
    operation = wired.do(services.restore, instance)
    assert operation.parameters["notes"] == ["A port that it used is taken by now, or no longer exists."]


def test_what_had_no_nic_comes_back_without(wired):
    instance = wired.launch(networks=[])
    wired.settle()
    wired.do(services.discard, instance)
    wired.settle()
    wired.do(services.restore, instance)
    assert not Port.objects.filter(holder_id=instance.pk).exists()
