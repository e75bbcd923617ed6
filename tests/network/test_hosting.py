"""Which networks and routers are on which hosts, what they are told, and when they are told again."""

import pytest
from django.db import transaction

from cloud.hosts.models import Order
from cloud.hosts.reconcile import reconcile
from network import specs
from network.models import NetworkOnHost, Port, RouterOnHost
from network.services import (
    address_pools,
    floating_ips,
    networks,
    port_forwards,
    ports,
    routers,
    security_groups,
    subnets,
)
from tests.network.clouds import Wired

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def wired(short_path, monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)
    return Wired(short_path)


def test_a_host_has_the_networks_of_its_ports_and_what_routers_join(wired):
    back = wired.change(networks.create, project=wired.project, name="back")
    subnet = wired.change(subnets.create, network=back, name="back", cidr="172.16.0.0/24")
    wired.change(networks.create, project=wired.project, name="alone")
    port = wired.plug(0)
    here, gates = wired.told(0)
    assert (set(here), set(gates)) == ({"default"}, {"default"})
    assert wired.told(1) == ({}, {})
    wired.change(routers.attach, router=wired.project.routers.get(), subnet=subnet)
    here, gates = wired.told(0)
    assert (set(here), len(gates["default"]["legs"])) == ({"default", "back"}, 2)
    wired.change(routers.detach, router=wired.project.routers.get(), subnet=subnet)
    assert set(wired.told(0)[0]) == {"default"}
    wired.unplug(port)
    assert wired.told(0) == ({}, {})
    assert not NetworkOnHost.objects.exists()
    assert not RouterOnHost.objects.exists()
    assert wired.breaches() == []


def test_the_spec_of_a_network_is_the_contracts(wired):
    port = wired.plug(0)
    other = wired.plug(1, name="db", allowed_address_pairs=[{"address": "10.0.0.9"}])
    spec = wired.told(0)[0]["default"]
    row = NetworkOnHost.objects.get(host=wired.hosts[0])
    subnet = wired.network.subnets.get()
    project = {"id": str(wired.project.pk), "name": wired.project.name}
    group = str(wired.group.pk)
    assert spec["id"] == str(row.pk)
    assert spec["network"] == {
        "id": str(wired.network.pk), "name": "default", "project": project, "vni": wired.network.vni, "mtu": 1450,
        "domain": "default.internal",
    }  # fmt: skip
    assert spec["subnets"] == [
        {"id": str(subnet.pk), "cidr": subnet.cidr, "gateway": subnet.gateway, "dns": [], "routes": [], "dhcp": True}
    ]
    assert spec["host"] == str(wired.hosts[0].pk)
    assert {peer["host"] for peer in spec["peers"]} == {str(host.pk) for host in wired.hosts}
    addresses = [[{"address": one.addresses.get().address, "subnet": str(subnet.pk)}] for one in (port, other)]
    assert spec["ports"] == [
        {"id": str(port.pk), "mac": port.mac, "addresses": addresses[0], "security_groups": [group],
         "allowed_pairs": [], "host": str(wired.hosts[0].pk), "name": "web", "mbps": None,
         "aside": []},
        {"id": str(other.pk), "mac": other.mac, "addresses": addresses[1], "security_groups": [group],
         "allowed_pairs": [{"address": "10.0.0.9", "mac": other.mac}], "host": str(wired.hosts[1].pk), "name": "db",
         "mbps": None, "aside": []},
    ]  # fmt: skip
    assert spec["groups"][group]["members"] == [one[0]["address"] for one in addresses]
    assert {(rule["direction"], rule["family"], str(rule["remote"])) for rule in spec["groups"][group]["rules"]} == {
        ("egress", 4, "None"), ("egress", 6, "None"),
        ("ingress", 4, str({"group": group})), ("ingress", 6, str({"group": group})),
    }  # fmt: skip


def test_the_spec_of_a_router_is_the_contracts(wired, settings):
    settings.PUBLISH_ON_LOOPBACK = True
    wired.change(address_pools.create, name="outside", cidr="203.0.113.0/24")
    port, other = wired.plug(0), wired.plug(1, name="db")
    forward = wired.change(port_forwards.create, port=port, target_port=22, listen_port=2222)
    floating = wired.change(floating_ips.create, project=wired.project, port=other)
    spec = wired.told(0)[1]["default"]
    subnet = wired.network.subnets.get()
    length = subnet.cidr.partition("/")[2]
    assert spec["router"] == {"id": str(wired.project.routers.get().pk), "name": "default", "snat": True}
    assert spec["legs"] == [
        {"network": str(wired.network.pk), "subnet": str(subnet.pk), "address": f"{subnet.gateway}/{length}"}
    ]
    assert (spec["routes"], spec["external"], spec["floating_ips"]) == ([], True, [])
    to = {"address": port.addresses.get().address, "port": 22, "network": str(wired.network.pk)}
    assert spec["forwards"] == [
        {"id": str(forward.pk), "protocol": "tcp", "listen": {"address": "127.0.0.1", "port": 2222}, "to": to}
    ]
    there = wired.told(1)[1]["default"]
    assert there["floating_ips"] == [
        {"id": str(floating.pk), "address": "203.0.113.1", "to": other.addresses.get().address}
    ]
    wired.unplug(other)
    assert wired.told(1)[1] == {}
    wired.change(port_forwards.delete, forward=forward)
    assert wired.told(0)[1]["default"]["forwards"] == []


def test_all_ports_of_a_floating_ip_lead_to_one_host(wired):
    """That of the oldest; when this goes, the next one leads, and its host hears of it."""
    wired.change(address_pools.create, name="outside", cidr="203.0.113.0/24")
    door = wired.change(floating_ips.create, project=wired.project)
    here, there = wired.plug(0), wired.plug(1, name="db")
    first, _ = (
        wired.change(port_forwards.create, port=port, target_port=80, floating_ip=door, listen_port=number)
        for number, port in enumerate((here, there), 80)
    )

    def elsewhere(at: int) -> list[bool]:
        return ["elsewhere" in forward for forward in wired.told(at)[1]["default"]["forwards"]]

    assert (elsewhere(0), elsewhere(1)) == ([False], [True])
    wired.change(port_forwards.delete, forward=first)
    assert (elsewhere(0), elsewhere(1)) == ([], [False])


CHANGES = {
    "a name": lambda wired, port: wired.change(networks.update, network=wired.network, changes={"name": "front"}),
    "an MTU": lambda wired, port: wired.change(networks.update, network=wired.network, changes={"mtu": 9000}),
    "a subnet": lambda wired, port: wired.change(subnets.create, network=wired.network, name="six", cidr="fd00::/64"),
    "DNS": lambda wired, port: wired.change(
        subnets.update, subnet=wired.network.subnets.get(), changes={"dns": ["192.0.2.53"]}
    ),
    "a rule": lambda wired, port: wired.change(
        security_groups.add_rule, group=wired.group, rule={"direction": "ingress", "protocol": 6, "port_min": 22}
    ),
    "a rule less": lambda wired, port: wired.change(security_groups.remove_rule, rule=wired.group.rules.first()),
    "groups": lambda wired, port: wired.change(ports.update, port=port, security_groups=[]),
    "pairs": lambda wired, port: wired.change(ports.update, port=port, allowed_address_pairs=[{"address": "10.0.0.9"}]),
    "a machine's name": lambda wired, port: wired.rename(port, "front"),
    "a neighbour": lambda wired, port: wired.plug(0, name="db"),
    "a neighbour elsewhere": lambda wired, port: wired.plug(1, name="db"),
    "no SNAT": lambda wired, port: wired.change(
        routers.update, router=wired.project.routers.get(), changes={"snat": False}
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_changes_is_told_to_the_host(wired, what):
    port = wired.plug(0)
    before = wired.told(0)
    assert not Order.objects.filter(answered_at=None).exists()
    CHANGES[what](wired, port)
    assert wired.told(0) != before
    assert wired.breaches() == []


def test_what_no_host_needs_to_hear_is_not_told(wired):
    port = wired.plug(0)
    wired.look()
    before = list(NetworkOnHost.objects.values_list("generation"))
    wired.change(ports.create, network=wired.network)
    wired.change(ports.update, port=port, labels={"tier": "web"})
    wired.change(networks.update, network=wired.network, changes={"labels": {"a": "b"}})
    assert list(NetworkOnHost.objects.values_list("generation")) == before


def test_members_of_a_group_elsewhere_are_told(wired):
    """A rule names a group whose members are on another network."""
    other = wired.change(networks.create, project=wired.project, name="other")
    wired.change(subnets.create, network=other, name="other", cidr="172.16.0.0/24")
    named = wired.change(security_groups.create, project=wired.project, name="named")
    rule = {"direction": "ingress", "remote_group": named}
    wired.change(security_groups.add_rule, group=wired.group, rule=rule)
    wired.plug(0)
    assert wired.told(0)[0]["default"]["groups"][str(named.pk)] == {"rules": [], "members": []}
    member = wired.plug(1, name="db", network=other, security_groups=[named])
    address = member.addresses.get().address
    assert wired.told(0)[0]["default"]["groups"][str(named.pk)]["members"] == [address]
    wired.unplug(member)
    assert wired.told(0)[0]["default"]["groups"][str(named.pk)]["members"] == []


def test_what_a_host_could_not_make_is_tried_again(wired):
    wired.kinds[0][0].broken = "no such luck"
    wired.plug(0)
    wired.look()
    row = NetworkOnHost.objects.get()
    assert (row.seen, row.seen_problem, row.is_true) == ("broken", "no such luck", False)
    reconcile()
    assert not Order.objects.filter(answered_at=None).exists()  # not at once
    wired.kinds[0][0].broken = ""
    with transaction.atomic():
        NetworkOnHost.objects.update(seen_at="2026-01-01T00:00:00Z")
    reconcile()
    wired.look()
    assert NetworkOnHost.objects.get().is_true


def test_what_has_vanished_from_a_host_is_made_again(wired):
    wired.plug(0)
    wired.look()
    NetworkOnHost.objects.update(seen="gone")
    reconcile()
    wired.look()
    assert NetworkOnHost.objects.get().is_true


def test_a_network_is_deleted_and_its_host_hears_of_it(wired):
    port = wired.plug(0)
    wired.look()
    wired.nodes[0].online = False
    wired.unplug(port)
    wired.change(routers.delete, router=wired.project.routers.get(), cascade=True)
    wired.change(networks.delete, network=wired.network, cascade=True)
    assert not NetworkOnHost.objects.exists()
    wired.nodes[0].online = True
    assert wired.told(0) == ({}, {})
    assert not Order.objects.filter(answered_at=None).exists()
    assert wired.breaches() == []


def test_a_nic_is_described_for_its_machine(wired):
    port = wired.plug(0)
    subnet = wired.network.subnets.get()
    length, row = subnet.cidr.partition("/")[2], NetworkOnHost.objects.get()
    assert specs.nic(Port.objects.get(pk=port.pk)) == {
        "port": str(port.pk), "network": str(wired.network.pk), "mac": port.mac, "mtu": 1450,
        "addresses": [f"{port.addresses.get().address}/{length}"], "dns": [],
        "dhcp6": False, "slot": 0, "awaits": {"id": str(row.pk), "generation": row.generation},
    }  # fmt: skip
    wired.look()
    assert specs.nic(Port.objects.get(pk=port.pk))["awaits"] is None


def test_status_tells_how_far_hosts_are(wired, api, cloud_admin, settings):
    settings.PUBLISH_ON_LOOPBACK = True
    admin, at = api.as_(cloud_admin), f"projects/{wired.project.name}"
    port = wired.plug(0)
    forward = wired.change(port_forwards.create, port=port, target_port=22)
    paths = (f"networks/{wired.network.pk}", "routers/default", f"ports/{port.pk}", f"port-forwards/{forward.pk}")

    def told():
        bodies = [admin.get(f"{at}/{path}").json() for path in paths]
        return {(body["status"], body["status_reason"]) for body in bodies}

    assert told() == {("waiting", "A host has not made it so yet.")}
    wired.look()
    assert told() == {("ready", "")}
    wired.kinds[0][0].broken = "no such luck"
    wired.change(networks.update, network=wired.network, changes={"mtu": 9000})
    wired.look()
    assert ("error", "no such luck") in told()
    free = wired.change(ports.create, network=wired.network)
    assert admin.get(f"{at}/ports/{free.pk}").json()["status_reason"] == "Nothing is plugged in."


def test_what_a_host_could_not_make_of_a_router_is_told_of_that_part_alone(wired, api, cloud_admin, settings):
    settings.PUBLISH_ON_LOOPBACK = True
    admin, at = api.as_(cloud_admin), f"projects/{wired.project.name}/port-forwards"
    port = wired.plug(0)
    taken, other = (wired.change(port_forwards.create, port=port, target_port=number) for number in (22, 80))
    wired.kinds[0][1].problems = {str(taken.pk): "the port is taken"}
    wired.look()
    told = {row["id"]: (row["status"], row["status_reason"]) for row in admin.get(at).json()["items"]}
    assert told == {str(taken.pk): ("error", "the port is taken"), str(other.pk): ("ready", "")}


def test_verify_finds_and_repairs_what_is_where_it_should_not_be(wired):
    wired.plug(0)
    wired.look()
    NetworkOnHost.objects.create(network=wired.network, host=wired.hosts[1])
    (breach,) = [found for found in wired.breaches() if "not needed" in found.words]
    breach.repair()
    wired.look()
    assert wired.breaches() == []
    assert NetworkOnHost.objects.count() == 1


def test_verify_finds_addresses_that_belong_elsewhere(wired):
    port = wired.plug(0)
    port.addresses.update(address="192.0.2.1")
    assert [found.words for found in wired.breaches()] == [
        f"{port} has the address 192.0.2.1, which does not belong to default"
    ]
