"""The database gives out addresses: each once, none too few, and free again at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import close_old_connections, connection, transaction

from cloud.tenancy import new_projects
from network import allocation
from network.allocation import NoAddressLeft
from network.models import Address, AddressPool, FloatingIP, Network, Port, Subnet
from network.models.ports import mac_of
from network.services import address_pools, floating_ips, networks, ports, subnets
from tests import factories
from tests.network.conftest import ALICE

TEN = [{"first": "10.9.0.11", "last": "10.9.0.15"}, {"first": "10.9.0.101", "last": "10.9.0.105"}]


def addresses_of(port):
    return [one.address for one in port.addresses.order_by("pk")]


def test_the_lowest_free_address_is_taken(make_network, make_port):
    network = make_network(cidr="10.9.0.0/24")
    first, second, third = (make_port(network) for _ in range(3))
    assert [addresses_of(port) for port in (first, second, third)] == [["10.9.0.2"], ["10.9.0.3"], ["10.9.0.4"]]
    ports.delete(port=second, actor=ALICE)
    assert addresses_of(make_port(network)) == ["10.9.0.3"]


def test_addresses_that_were_asked_for_are_gone_round(make_network, make_port):
    network = make_network(cidr="10.9.0.0/24", allocation_ranges=TEN)
    for address in ("10.9.0.11", "10.9.0.12", "10.9.0.200"):
        make_port(network, addresses=[ports.Wanted(address=address)])
    got = [addresses_of(make_port(network))[0] for _ in range(8)]
    assert got == [f"10.9.0.{last}" for last in (13, 14, 15, 101, 102, 103, 104, 105)]
    with pytest.raises(NoAddressLeft, match="Every address of"):
        make_port(network)
    assert Port.objects.filter(network=network).count() == 12  # this transaction would be rolled back


def test_of_both_families_a_port_gets_one(make_network, make_port):
    network = make_network(cidr="10.9.0.0/24")
    subnets.create(network=network, actor=ALICE, name="six", cidr="fd00:9::/64")
    assert addresses_of(make_port(network)) == ["10.9.0.2", "fd00:9::2"]
    assert addresses_of(make_port(network)) == ["10.9.0.3", "fd00:9::3"]


def test_macs_come_from_the_ports_id(make_port):
    port = make_port()
    assert port.mac == mac_of(port.pk)
    assert int(port.mac[:2], 16) & 0b11 == 0b10  # locally administered, of one device


@pytest.mark.django_db(transaction=True)
def test_of_forty_at_once_ten_get_the_last_ten_addresses():
    project = factories.project(limits={})
    with transaction.atomic():
        network = networks.create(project=project, actor=ALICE, name="narrow")
        subnet = subnets.create(network=network, actor=ALICE, name="narrow", cidr="10.9.0.0/24", allocation_ranges=TEN)
        waiting = [
            Port.objects.create(
                project=project, network=network, name=f"port-{number}", mac=f"06:00:00:00:00:{number:02x}"
            )
            for number in range(40)
        ]

    def take(port):
        try:
            with transaction.atomic():
                return allocation.allocate(port, subnet).address
        except NoAddressLeft:
            return None
        finally:
            connection.close()

    with ThreadPoolExecutor(40) as threads:
        got = list(threads.map(take, waiting))
    close_old_connections()
    assert sorted(filter(None, got)) == sorted(
        [*(f"10.9.0.{n}" for n in range(11, 16)), *(f"10.9.0.{n}" for n in range(101, 106))]
    )
    assert Address.objects.filter(subnet=subnet).count() == 10


def test_vnis_are_not_given_out_again_soon(make_network, tenant):
    first = make_network(cidr="")
    networks.delete(network=first, actor=ALICE)
    assert make_network(cidr="").vni == first.vni + 1


def test_at_the_end_of_the_pool_free_vnis_are_looked_for(tenant):
    with connection.cursor() as cursor:
        cursor.execute("SELECT setval('network_vni', 16777215)")
    Network.objects.create(project=tenant, name="other", vni=4096, mtu=1450)
    assert allocation.next_vni() == 4097


def test_a_pool_gives_each_address_once(db):
    project = factories.project()
    new_projects.furnish(project, ALICE)
    pool = address_pools.create(
        actor=ALICE,
        name="outside",
        cidr="203.0.113.0/24",
        allocation_ranges=[{"first": "203.0.113.8", "last": "203.0.113.9"}],
    )
    made = [floating_ips.create(project=project, actor=ALICE) for _ in range(2)]
    assert [floating.address for floating in made] == ["203.0.113.8", "203.0.113.9"]
    with pytest.raises(NoAddressLeft, match="the pool outside"):
        floating_ips.create(project=project, actor=ALICE, pool=pool)
    floating_ips.delete(floating=made[0], actor=ALICE)
    assert floating_ips.create(project=project, actor=ALICE).address == "203.0.113.8"
    assert FloatingIP.objects.count() == 2
    assert AddressPool.objects.count() == 1


def test_the_database_refuses_overlap_inside_of_a_network(default):
    assert Subnet.objects.count() == 1
    with pytest.raises(Exception, match="subnets_of_a_network_do_not_overlap"), transaction.atomic():
        Subnet.objects.create(
            project=default.project, network=default.network, name="half", cidr=default.cidr.replace("/24", "/25")
        )
    other = networks.create(project=default.project, actor=ALICE, name="other")
    Subnet.objects.create(project=default.project, network=other, name="same-range", cidr=default.cidr)
    Subnet.objects.create(project=default.project, network=other, name="six", cidr="fd00::/64")
    with pytest.raises(Exception, match="subnets_of_a_network_do_not_overlap"), transaction.atomic():
        Subnet.objects.create(project=default.project, network=other, name="whole", cidr="10.0.0.0/8")
