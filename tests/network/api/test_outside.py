"""Address pools, floating IPs and port forwards over the API."""

import pytest

from network.models import AddressPool, FloatingIP, Port, PortForward
from network.services import ports
from tests.network.api.conftest import pointers
from tests.network.conftest import ALICE

IPS, FORWARDS = "projects/demo/floating-ips", "projects/demo/port-forwards"


@pytest.fixture
def admin(api, cloud_admin):
    return api.as_(cloud_admin)


def test_admins_offer_addresses(admin, mia):
    made = admin.post("address-pools", {"name": "outside", "cidr": "203.0.113.0/24"})
    assert made.status_code == 201, made.content
    assert made.json()["addresses"] == {"total": 254, "used": 0}
    assert mia.get("address-pools/outside").json()["cidr"] == "203.0.113.0/24"
    overlapping = admin.post("address-pools", {"name": "again", "cidr": "203.0.113.128/25"})
    assert (overlapping.status_code, pointers(overlapping)) == (409, ["/cidr"])
    bad = {"name": "bad", "cidr": "198.51.100.0/24", "allocation_ranges": [{"first": "1.2.3.4", "last": "1.2.3.5"}]}
    assert pointers(admin.post("address-pools", bad)) == ["/allocation_ranges/0"]
    assert pointers(admin.post("address-pools", {"name": "bad", "cidr": "0.0.0.0/0"})) == ["/cidr"]
    part = [{"first": "203.0.113.8", "last": "203.0.113.9"}]
    assert admin.patch("address-pools/outside", {"allocation_ranges": part}).json()["addresses"]["total"] == 2
    mia.post(IPS, {})
    assert [one["name"] for one in admin.delete("address-pools/outside").json()["used_by"]] == ["demo"]
    mia.delete(f"{IPS}/{FloatingIP.objects.get().name}")
    assert admin.delete("address-pools/outside").status_code == 204
    assert not AddressPool.objects.exists()


def test_a_floating_ip_leads_to_a_machine_moves_and_is_let_go(mia, pool, plug):
    web, db = plug("web"), plug("db")
    made = mia.post(IPS, {"name": "door", "instance": "web"})
    assert made.status_code == 201, made.content
    body = made.json()
    assert (body["address"], body["instance"]["name"], body["port"]["id"]) == ("203.0.113.1", "web", str(web.pk))
    assert body["fixed_address"] == web.addresses.get().address
    moved = mia.post(f"{IPS}/door/associate", {"port": db.name})
    assert (moved.status_code, moved.json()["instance"]["name"]) == (200, "db")
    second = mia.post(IPS, {"port": db.name})
    assert (second.status_code, pointers(second)) == (409, ["/port"])
    assert mia.post(f"{IPS}/door/disassociate").json()["port"] is None
    assert mia.post(f"{IPS}/door/disassociate").status_code == 200
    assert mia.delete(f"{IPS}/door").status_code == 204


def test_where_it_cannot_lead_is_told(mia, pool, plug, stranger):
    theirs = Port.objects.get(project__name="elsewhere")
    plug("web")
    mia.post(IPS, {"name": "door"})
    leg = Port.objects.get(project__name="demo", holder_type="router")
    for body, places in (
        ({}, [""]),
        ({"port": str(theirs.pk)}, ["/port"]),
        ({"instance": "nothing"}, ["/instance"]),
        ({"instance": "web", "port": leg.name}, [""]),
        ({"port": leg.name}, ["/port"]),
        ({"instance": "web", "address": "192.0.2.7"}, ["/address"]),
    ):
        assert pointers(mia.post(f"{IPS}/door/associate", body)) == places, body
    mia.post("projects/demo/networks", {"name": "alone"})
    mia.post("projects/demo/subnets", {"name": "alone", "network": "alone", "cidr": "10.7.0.0/24"})
    mia.post("projects/demo/ports", {"name": "lonely", "network": "alone"})
    alone = mia.post(f"{IPS}/door/associate", {"port": "lonely"})
    assert (alone.status_code, "router" in alone.json()["detail"]) == (409, True)
    assert pointers(mia.post(IPS, {"address": "198.51.100.1"})) == ["/address"]
    taken = mia.post(IPS, {"address": "203.0.113.1"})
    assert (taken.status_code, pointers(taken)) == (409, ["/address"])


def test_without_a_pool_the_admin_is_named(mia):
    refused = mia.post(IPS, {})
    assert (refused.status_code, pointers(refused)) == (400, ["/pool"])
    assert "no address pool" in refused.json()["detail"]


def test_ports_of_a_floating_ip_lead_to_several_machines(mia, pool, plug):
    plug("web"), plug("db")
    address = mia.post(IPS, {"name": "door"}).json()["address"]
    to_web = {"listen": {"address": address, "port": 80}, "to": {"instance": "web", "target_port": 8080}}
    made = mia.post(FORWARDS, {"name": "http", **to_web})
    assert made.status_code == 201, made.content
    assert made.json()["listen"] == {"address": address, "port": 80}
    assert (made.json()["to"]["instance"]["name"], made.json()["to"]["target_port"]) == ("web", 8080)
    taken = mia.post(FORWARDS, {**to_web, "to": {"instance": "db", "target_port": 80}})
    assert (taken.status_code, pointers(taken)) == (409, ["/listen/port"])
    assert mia.post(FORWARDS, {**to_web, "protocol": "udp"}).status_code == 201
    assert mia.post(f"{IPS}/door/associate", {"instance": "db"}).status_code == 409
    assert {one["type"] for one in mia.delete(f"{IPS}/door").json()["used_by"]} == {"port_forward"}
    assert mia.delete(f"{FORWARDS}/http").status_code == 204
    assert mia.delete(f"{IPS}/door?cascade=true").status_code == 204
    assert not PortForward.objects.exists()


def test_a_floating_ip_that_leads_to_one_machine_has_no_forwards(mia, pool, plug):
    plug("web")
    address = mia.post(IPS, {"name": "door", "instance": "web"}).json()["address"]
    body = {"listen": {"address": address, "port": 80}, "to": {"instance": "web", "target_port": 80}}
    assert mia.post(FORWARDS, body).status_code == 409


def test_the_loopback_is_for_clouds_on_one_machine(mia, plug, settings):
    plug("web")
    ssh = {"to": {"instance": "web", "target_port": 22}}
    settings.PUBLISH_ON_LOOPBACK = False
    assert pointers(mia.post(FORWARDS, ssh)) == ["/listen/address"]
    settings.PUBLISH_ON_LOOPBACK = True
    made = mia.post(FORWARDS, {"name": "ssh", **ssh})
    assert made.status_code == 201, made.content
    assert (made.json()["listen"]["address"], made.json()["listen"]["port"] in range(20000, 30000)) == (
        "127.0.0.1",
        True,
    )
    assert pointers(mia.post(FORWARDS, {**ssh, "listen": {"port": 80}})) == ["/listen/port"]
    same = {**ssh, "listen": {"address": "127.0.0.1", "port": made.json()["listen"]["port"]}}
    assert pointers(mia.post(FORWARDS, same)) == ["/listen/port"]


def test_faults_of_a_forward_are_all_named(mia, pool, stranger):
    theirs = stranger.post("projects/elsewhere/floating-ips", {}).json()["address"]
    body = {
        "name": "-", "protocol": "sctp", "listen": {"address": theirs, "port": 0},
        "to": {"instance": "nothing", "target_port": 70000},
    }  # fmt: skip
    assert set(pointers(mia.post(FORWARDS, body))) == {
        "/name", "/protocol", "/listen/address", "/listen/port", "/to/instance", "/to/target_port",
    }  # fmt: skip


def test_what_is_released_lets_go_of_what_leads_to_it(mia, pool, plug, settings):
    settings.PUBLISH_ON_LOOPBACK = True
    web = plug("web")
    mia.post(IPS, {"name": "door", "instance": "web"})
    mia.post(FORWARDS, {"name": "ssh", "to": {"instance": "web", "target_port": 22}})
    ports.release(holder_type="instance", holder_id=web.holder_id, actor=ALICE)
    assert not Port.objects.filter(pk=web.pk).exists()
    assert mia.get(f"{IPS}/door").json()["port"] is None
    assert not PortForward.objects.exists()


def test_a_free_port_with_a_floating_ip_goes_with_cascade_only(mia, pool):
    mia.post("projects/demo/ports", {"name": "plug", "network": "default"})
    mia.post(IPS, {"name": "door", "port": "plug"})
    refused = mia.delete("projects/demo/ports/plug")
    assert [(one["type"], one["name"]) for one in refused.json()["used_by"]] == [("floating_ip", "door")]
    assert mia.delete("projects/demo/ports/plug?cascade=true").status_code == 204
