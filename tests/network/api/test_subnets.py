"""Networks and subnets over the API."""

import ipaddress

import pytest

from cloud.events.models import Event
from network.models import Network, Port, Router, Subnet
from tests.network.api.conftest import pointers

NETS, SUBNETS = "projects/demo/networks", "projects/demo/subnets"


def test_a_network_with_a_subnet_is_made_and_shown(mia):
    made = mia.post(NETS, {"name": "back", "labels": {"tier": "db"}})
    assert made.status_code == 201
    body = made.json()
    assert (body["mtu"], body["domain"], body["subnets"]) == (1450, "back.internal", [])
    assert (body["status"], body["status_reason"]) == ("waiting", "No host of this cloud carries networks yet.")
    subnet = mia.post(SUBNETS, {"name": "back", "network": "back", "cidr": "10.1.0.0/24"})
    assert subnet.status_code == 201, subnet.content
    shown = subnet.json()
    assert (shown["gateway"], shown["family"], shown["network"]["name"]) == ("10.1.0.1", 4, "back")
    assert shown["allocation_ranges"] == [{"first": "10.1.0.2", "last": "10.1.0.254"}]
    assert shown["addresses"] == {"total": 253, "used": 0}
    assert mia.get(f"{NETS}/back").json()["subnets"][0]["cidr"] == "10.1.0.0/24"
    assert [one["name"] for one in mia.get(f"{NETS}?label=tier:db").json()["items"]] == ["back"]
    assert [one["name"] for one in mia.get(f"{SUBNETS}?network=back").json()["items"]] == ["back"]


def test_a_null_gateway_means_no_way_out(mia):
    made = mia.post(SUBNETS, {"name": "alone", "network": "default", "cidr": "192.168.7.0/24", "gateway": None})
    assert made.json()["gateway"] is None
    assert made.json()["allocation_ranges"][0]["first"] == "192.168.7.1"


def test_every_fault_of_a_subnet_is_named_at_once(mia):
    body = {
        "name": "Bad Name",
        "network": "nothing",
        "cidr": "10.1.0.0/24",
        "gateway": "10.2.0.1",
        "allocation_ranges": [{"first": "10.1.0.9", "last": "10.1.0.5"}, {"first": "10.1.0.7", "last": "fd00::1"}],
        "dns": ["10.1.0.2", "nonsense"],
        "routes": [{"destination": "192.168.0.0/16", "next_hop": "10.7.0.1"}],
        "dhcp": "yes",
        "colour": "red",
    }
    answer = mia.post(SUBNETS, body)
    assert answer.status_code == 400
    assert set(pointers(answer)) == {
        "/name", "/network", "/gateway", "/allocation_ranges/1", "/dns/1", "/routes/0/next_hop", "/dhcp", "/colour",
    }  # fmt: skip
    assert Subnet.objects.count() == 1
    fitting = mia.post(SUBNETS, {**body, "allocation_ranges": body["allocation_ranges"][:1], "cidr": "10.1.0.1/24"})
    assert "/cidr" in pointers(fitting)


@pytest.mark.parametrize(
    "cidr",
    ["0.0.0.0/0", "::/0", "10.0.0.0/33", "10.1.0.1/24", "fd00::10.0.0.1/24", "::ffff:10.1.0.0/120", "10.1.0.0/31",
     "224.0.0.0/24", "127.0.0.0/8", "10.1.0.0", "", "x" * 60, 24, None, ["10.1.0.0/24"]],
)  # fmt: skip
def test_absurd_ranges_are_refused(mia, cidr):
    answer = mia.post(SUBNETS, {"name": "bad", "network": "default", "cidr": cidr})
    assert (answer.status_code, pointers(answer)) == (400, ["/cidr"])


def test_overlap_inside_of_a_network_is_refused(mia, project):
    cidr = Subnet.objects.get(project=project).cidr
    answer = mia.post(SUBNETS, {"name": "again", "network": "default", "cidr": cidr})
    assert (answer.status_code, pointers(answer)) == (409, ["/cidr"])
    assert "Another subnet of this network" in answer.json()["detail"]
    mia.post(NETS, {"name": "other"})
    assert mia.post(SUBNETS, {"name": "again", "network": "other", "cidr": cidr}).status_code == 201


def test_strangers_networks_look_as_if_they_were_not_there(mia, stranger):
    theirs = Network.objects.get(project__name="elsewhere")
    body = {"name": "mine", "cidr": "10.1.0.0/24"}
    strange = mia.post(SUBNETS, {**body, "network": str(theirs.pk)}).json()["errors"]
    absent = mia.post(SUBNETS, {**body, "network": "6f7b0b0e-0000-4000-8000-000000000000"}).json()["errors"]
    assert strange == absent
    assert stranger.get(f"projects/demo/subnets/{Subnet.objects.get(project__name='demo').pk}").status_code == 404


def test_a_change_is_compared_with_the_subnets_range(mia, project):
    subnet = Subnet.objects.get(project=project)
    inside = subnet.cidr.replace("0/24", "7")
    changes = {"dns": ["1.1.1.1"], "routes": [{"destination": "192.168.0.0/16", "next_hop": inside}], "dhcp": False}
    changed = mia.patch(f"{SUBNETS}/default", changes)
    assert changed.status_code == 200, changed.content
    assert {field: changed.json()[field] for field in changes} == changes
    bad = mia.patch(
        f"{SUBNETS}/default",
        {"dns": ["fd00::1"], "allocation_ranges": [{"first": "192.0.2.1", "last": "192.0.2.9"}]},
    )
    assert set(pointers(bad)) == {"/dns/0", "/allocation_ranges/0"}
    fixed = mia.patch(f"{SUBNETS}/default", {"cidr": "10.1.0.0/24"})
    assert pointers(fixed) == ["/cidr"]


def test_what_is_in_use_names_its_users(mia, plug):
    plug("web")
    refused = mia.delete(f"{NETS}/default")
    assert refused.status_code == 409
    users = [(one["type"], one["name"]) for one in refused.json()["used_by"]]
    assert sorted(users) == [("instance", "web"), ("router", "default"), ("subnet", "default")]
    assert "instance web" in refused.json()["detail"]
    machines = mia.delete(f"{NETS}/default?cascade=true")
    assert (machines.status_code, [one["name"] for one in machines.json()["used_by"]]) == (409, ["web"])
    assert [one["type"] for one in mia.delete(f"{SUBNETS}/default?cascade=true").json()["used_by"]] == ["instance"]


def test_a_dry_run_shows_the_tree_that_cascade_deletes(mia, project):
    mia.post("projects/demo/ports", {"name": "spare", "network": "default"})
    mia.post(SUBNETS, {"name": "six", "network": "default", "cidr": "fd00:1::/64"})
    shown = mia.delete(f"{NETS}/default?cascade=true&dry_run=true")
    assert shown.status_code == 200
    leg = Port.objects.get(holder_type="router")
    deleted = {(one["type"], one["name"]) for one in shown.json()["plan"]["deleted"]}
    assert deleted == {
        ("network", "default"), ("subnet", "default"), ("subnet", "six"), ("port", "spare"), ("port", leg.name),
    }  # fmt: skip
    assert Network.objects.filter(project=project).count() == 1
    assert mia.delete(f"{NETS}/default?cascade=true").status_code == 204
    assert not Network.objects.filter(project=project).exists()
    assert not Port.objects.filter(project=project).exists()
    assert mia.get("projects/demo/routers/default").json()["subnets"] == []
    assert Router.objects.count() == 1


def test_quota_etag_and_events_are_as_everywhere(mia, project):
    project.quota.limits.update(networks=1)
    project.quota.save()
    refused = mia.post(NETS, {"name": "more"})
    assert (refused.status_code, refused.json()["quota"][0]["kind"]) == (403, "networks")
    etag = mia.get(f"{NETS}/default").headers["ETag"]
    assert mia.patch(f"{NETS}/default", {"mtu": 9000}, HTTP_IF_MATCH=etag).status_code == 200
    assert mia.patch(f"{NETS}/default", {"mtu": 1400}, HTTP_IF_MATCH=etag).status_code == 412
    event = Event.objects.latest("id")
    assert (event.action, event.before, event.after) == ("network.network.update", {"mtu": 1450}, {"mtu": 9000})
    assert mia.get("projects/demo/quota").json()["subnets"]["used"] == 1


@pytest.mark.parametrize("mtu", [1279, 65001, "1450", None, 1450.5])
def test_impossible_mtus_are_refused(mia, mtu):
    assert pointers(mia.post(NETS, {"name": "odd", "mtu": mtu})) == ["/mtu"]


def test_ports_of_an_ipv6_subnet_without_dhcp_have_the_address_that_their_mac_makes(mia):
    body = {"name": "six", "network": "default", "cidr": "fd00:1::/64", "dhcp": False}
    assert mia.post(SUBNETS, body).status_code == 201
    made = mia.post("projects/demo/ports", {"name": "p", "network": "default", "addresses": [{"subnet": "six"}]}).json()
    octets = bytes.fromhex(made["mac"].replace(":", ""))
    host = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    expected = str(ipaddress.IPv6Address(bytes.fromhex("fd00000100000000") + host))
    assert [one["address"] for one in made["addresses"]] == [expected]
    # So does every other machine of the network, when it was there before the subnet.
    assert mia.post(SUBNETS, {**body, "name": "more", "cidr": "fd00:2::/64"}).status_code == 201
    shown = mia.get("projects/demo/ports/p").json()["addresses"]
    assert [one["address"] for one in shown] == [expected, expected.replace("fd00:1:", "fd00:2:")]
    assert mia.delete(f"{SUBNETS}/more").status_code == 204
    assert [one["address"] for one in mia.get("projects/demo/ports/p").json()["addresses"]] == [expected]
    refused = mia.patch(f"{SUBNETS}/six", {"dhcp": True})
    assert (refused.status_code, pointers(refused)) == (400, ["/dhcp"])
    assert mia.delete("projects/demo/ports/p").status_code == 204
    assert mia.patch(f"{SUBNETS}/six", {"dhcp": True}).json()["dhcp"]
    given = mia.post("projects/demo/ports", {"name": "q", "network": "default", "addresses": [{"subnet": "six"}]})
    assert given.json()["addresses"][0]["address"] == "fd00:1::2"


def test_the_address_of_the_metadata_is_in_no_subnet(mia):
    refused = mia.post(SUBNETS, {"name": "six", "network": "default", "cidr": "fd00:ec2::/64"})
    assert (refused.status_code, pointers(refused)) == (400, ["/cidr"])
    assert "read their metadata" in str(refused.json())
