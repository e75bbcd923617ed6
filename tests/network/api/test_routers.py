"""Routers over the API."""

from network.models import Port, Router, Subnet
from tests.network.api.conftest import pointers

ROUTERS = "projects/demo/routers"


def add_subnet(mia, name, cidr, **plan):
    mia.post("projects/demo/networks", {"name": name})
    made = mia.post("projects/demo/subnets", {"name": name, "network": name, "cidr": cidr, **plan})
    assert made.status_code == 201, made.content


def attach(mia, subnet, router="default", **more):
    return mia.post(f"{ROUTERS}/{router}/attach-subnet", {"subnet": subnet, **more})


def test_a_router_becomes_the_gateway_of_what_it_joins(mia):
    add_subnet(mia, "back", "10.1.0.0/24")
    joined = attach(mia, "back")
    assert joined.status_code == 200, joined.content
    legs = {leg["subnet"]["name"]: leg["address"] for leg in joined.json()["subnets"]}
    assert legs["back"] == "10.1.0.1"
    assert (joined.json()["external"], joined.json()["snat"]) == (True, True)
    mia.post(ROUTERS, {"name": "second", "external": False})
    second = attach(mia, "back", "second")
    assert [leg["address"] for leg in second.json()["subnets"]] == ["10.1.0.2"]
    third = mia.post(ROUTERS, {"name": "third"})
    assert third.json()["subnets"] == []
    assert attach(mia, "back", "third", address="10.1.0.9").json()["subnets"][0]["address"] == "10.1.0.9"


def test_what_overlaps_or_is_joined_already_is_refused(mia, project):
    cidr = Subnet.objects.get(project=project).cidr
    add_subnet(mia, "same", cidr)
    overlapping = attach(mia, "same")
    assert (overlapping.status_code, pointers(overlapping)) == (409, ["/subnet"])
    assert cidr in overlapping.json()["detail"]
    assert attach(mia, "default").status_code == 409
    assert attach(mia, "nothing").status_code == 400
    add_subnet(mia, "back", "10.1.0.0/24")
    taken = mia.post("projects/demo/ports", {"network": "back"}).json()["addresses"][0]["address"]
    assert pointers(attach(mia, "back", address=taken)) == ["/address/0"]
    assert pointers(attach(mia, "back", address="10.2.0.5")) == ["/address/0"]
    assert Port.objects.filter(holder_type="router").count() == 1


def test_static_routes_lead_over_joined_subnets(mia, project):
    inside = Subnet.objects.get(project=project).cidr.replace("0/24", "9")
    good = [{"destination": "192.168.0.0/16", "next_hop": inside}]
    assert mia.patch(f"{ROUTERS}/default", {"routes": good}).json()["routes"] == good
    bad = [
        *good,
        {"destination": "192.168.0.0/16", "next_hop": "192.0.2.1"},
        {"destination": "::/0", "next_hop": inside},
    ]
    assert pointers(mia.patch(f"{ROUTERS}/default", {"routes": bad})) == [
        "/routes/1/next_hop", "/routes/1/destination", "/routes/2/next_hop",
    ]  # fmt: skip
    parted = mia.post(f"{ROUTERS}/default/detach-subnet", {"subnet": "default"})
    assert (parted.status_code, "static route" in parted.json()["detail"]) == (409, True)
    mia.patch(f"{ROUTERS}/default", {"routes": []})
    parted = mia.post(f"{ROUTERS}/default/detach-subnet", {"subnet": "default"})
    assert (parted.status_code, parted.json()["subnets"]) == (200, [])
    assert mia.post(f"{ROUTERS}/default/detach-subnet", {"subnet": "default"}).status_code == 409
    assert not Port.objects.filter(project=project).exists()


def test_a_router_that_joins_subnets_goes_with_cascade_only(mia, pool, plug):
    plug("web")
    floating = mia.post("projects/demo/floating-ips", {"instance": "web"}).json()
    assert floating["instance"]["name"] == "web"
    refused = mia.delete(f"{ROUTERS}/default")
    assert [one["name"] for one in refused.json()["used_by"]] == ["default"]
    assert mia.post(f"{ROUTERS}/default/detach-subnet", {"subnet": "default"}).status_code == 409
    closed = mia.patch(f"{ROUTERS}/default", {"external": False})
    assert [one["type"] for one in closed.json()["used_by"]] == ["floating_ip"]
    plan = mia.delete(f"{ROUTERS}/default?cascade=true&dry_run=true").json()["plan"]
    assert [one["type"] for one in plan["deleted"]] == ["port", "router"]
    assert [one["type"] for one in plan["changed"]] == ["floating_ip"]
    assert mia.delete(f"{ROUTERS}/default?cascade=true").status_code == 204
    assert mia.get(f"projects/demo/floating-ips/{floating['id']}").json()["port"] is None


def test_its_legs_know_a_new_name(mia, project):
    mia.patch(f"{ROUTERS}/default", {"name": "gate"})
    assert Port.objects.get(holder_type="router").holder_name == "gate"
    assert Router.objects.get(project=project).name == "gate"
