"""Ports over the API."""

from network.models import Network, Port, SecurityGroup, Subnet
from tests.network.api.conftest import pointers

PORTS = "projects/demo/ports"


def test_a_port_gets_an_address_and_the_default_group(mia, project):
    made = mia.post(PORTS, {"network": "default"})
    assert made.status_code == 201, made.content
    body = made.json()
    subnet = Subnet.objects.get(project=project)
    assert body["addresses"] == [
        {
            "address": subnet.allocation_ranges[0]["first"],
            "family": 4,
            "subnet": {"id": str(subnet.pk), "name": "default"},
        }
    ]
    assert [group["name"] for group in body["security_groups"]] == ["default"]
    assert (body["holder"], body["instance"], body["name"][:5]) == (None, None, "port-")
    assert body["mac"].startswith("06:")
    found = mia.get(f"{PORTS}?address={subnet.allocation_ranges[0]['first']}").json()["items"]
    assert [one["id"] for one in found] == [body["id"]]


def test_a_dry_run_shows_the_address_and_keeps_nothing(mia):
    shown = mia.post(f"{PORTS}?dry_run=true", {"network": "default"})
    assert shown.status_code == 201
    assert shown.json()["plan"]["created"][0]["after"]["addresses"] == [shown.json()["addresses"][0]["address"]]
    assert not Port.objects.filter(holder_type="").exists()


def test_addresses_and_groups_that_are_wanted_are_given(mia, project):
    subnet = Subnet.objects.get(project=project)
    wanted = subnet.cidr.replace("0/24", "77")
    mia.post("projects/demo/security-groups", {"name": "web"})
    body = {
        "name": "plug", "network": "default", "addresses": [{"address": wanted}, {"subnet": "default"}],
        "security_groups": ["web"], "allowed_address_pairs": [{"address": "10.0.0.9", "mac": "02:00:5E:00:00:01"}],
    }  # fmt: skip
    made = mia.post(PORTS, body).json()
    assert [one["address"] for one in made["addresses"]] == [wanted, subnet.allocation_ranges[0]["first"]]
    assert [group["name"] for group in made["security_groups"]] == ["web"]
    assert made["allowed_address_pairs"] == [{"address": "10.0.0.9", "mac": "02:00:5e:00:00:01"}]
    again = mia.post(PORTS, {"network": "default", "addresses": [{"address": wanted}]})
    assert (again.status_code, pointers(again)) == (409, ["/addresses/0"])
    assert mia.delete(f"{PORTS}/plug").status_code == 204
    assert mia.post(PORTS, {"network": "default", "addresses": [{"address": wanted}]}).status_code == 201


def test_every_fault_of_a_port_is_named(mia, project, stranger):
    subnet = Subnet.objects.get(project=project)
    theirs = Network.objects.get(project__name="elsewhere")
    gateway, taken, network = subnet.gateway, subnet.cidr.replace("0/24", "50"), subnet.cidr.partition("/")[0]
    mia.post(PORTS, {"network": "default", "addresses": [{"address": taken}]})
    mia.post("projects/demo/networks", {"name": "other"})
    mia.post("projects/demo/subnets", {"name": "other", "network": "other", "cidr": "10.3.0.0/24"})
    wrong = [
        {"address": gateway}, {"address": "192.0.2.1"}, {"subnet": "other"}, {"address": network},
        {"subnet": "default", "address": "10.3.0.5"},
    ]  # fmt: skip
    answer = mia.post(PORTS, {"network": "default", "addresses": wrong})
    assert (answer.status_code, pointers(answer)) == (400, [f"/addresses/{index}" for index in range(5)])
    body = {
        "network": str(theirs.pk),
        "addresses": [{}, {"subnet": str(theirs.subnets.get().pk)}, {"address": "10.0.0.300"}],
        "security_groups": [str(SecurityGroup.objects.get(project__name="elsewhere").pk), "default", "default"],
        "allowed_address_pairs": [{"address": "0.0.0.0/0"}, {"address": "10.0.0.1", "mac": "01:00:5e:00:00:01"}],
    }
    assert set(pointers(mia.post(PORTS, body))) == {
        "/network", "/addresses/0", "/addresses/1/subnet", "/addresses/2/address", "/security_groups/0",
        "/security_groups/2", "/allowed_address_pairs/0/address", "/allowed_address_pairs/1/mac",
    }  # fmt: skip
    assert Port.objects.filter(project=project, holder_type="").count() == 1


def test_a_port_without_groups_lets_nothing_through(mia):
    made = mia.post(PORTS, {"network": "default", "security_groups": []})
    assert made.json()["security_groups"] == []
    changed = mia.patch(f"{PORTS}/{made.json()['id']}", {"security_groups": ["default"], "name": "plug"})
    assert [group["name"] for group in changed.json()["security_groups"]] == ["default"]
    assert changed.json()["name"] == "plug"


def test_a_held_port_tells_by_whom_and_stays(mia, plug):
    port = plug("web")
    shown = mia.get(f"{PORTS}/{port.name}").json()
    assert shown["holder"] == {"type": "instance", "id": str(port.holder_id), "name": "web"}
    assert shown["instance"] == {"id": str(port.holder_id), "name": "web"}
    refused = mia.delete(f"{PORTS}/{port.name}?cascade=true")
    assert (refused.status_code, refused.json()["used_by"][0]["name"]) == (409, "web")
    leg = Port.objects.get(holder_type="router")
    assert mia.get(f"{PORTS}/{leg.pk}").json()["instance"] is None
    assert mia.delete(f"{PORTS}/{leg.pk}").status_code == 409


def test_quota_counts_ports_but_no_legs(mia, project):
    project.quota.limits.update(ports=1)
    project.quota.save()
    assert mia.post(PORTS, {"network": "default"}).status_code == 201
    assert mia.post(PORTS, {"network": "default"}).status_code == 403
