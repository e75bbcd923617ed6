"""Instances on networks: launched with ports, started once their host has made their networks, let go at the end."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from django.db import connection, transaction

from cloud.events.models import Event
from cloud.hosts import orders
from cloud.hosts.models import Host
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.problems import Problem
from cloud.tenancy import new_projects
from compute import networking, services
from compute.models import Instance
from compute.networking import Nic
from network.models import NetworkOnHost, Port
from network.services import networks, ports, security_groups, subnets
from network.services.ports import Holder
from network.status import of_network
from tests.clouds import ALICE, SmallCloud
from tests.network.clouds import Wired

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def wired(short_path):
    return Wired(short_path)


@pytest.fixture
def admin(wired, api, cloud_admin):
    """The API of the project, for somebody who may do everything."""
    client = api.as_(cloud_admin)
    client.at = f"projects/{wired.project.name}"
    return client


def nics(cloud: SmallCloud, instance: Instance) -> list:
    """Those that its machine was last started with."""
    for node in cloud.nodes:
        if str(instance.pk) in node.hypervisor.running():
            return list(node.hypervisor.spec(str(instance.pk))["nics"])
    raise AssertionError("it does not run")


@pytest.mark.parametrize("tunnels", [True, False])
def test_it_goes_where_it_reaches_its_neighbours_as_long_as_there_is_room(wired, settings, tunnels):
    settings.PLACEMENT_STRATEGY = "spread"
    for number, (kinds, node) in enumerate(zip(wired.kinds, wired.nodes, strict=True)):
        kinds[0].said = {"networks": True, "vtep": f"192.0.2.{number + 7}" if tunnels else ""}
        node.heartbeat()
    first, second = (wired.launch(name=name).host for name in ("first", "second"))
    assert (first == second) == (not tunnels)
    wired.settle()
    Host.objects.filter(pk=first.pk).update(enabled=False)
    assert wired.launch(name="third").host not in (first, None)
    wired.settle()
    status = of_network(wired.network, carried=True)
    assert (status.status == "error") == (not tunnels), status
    assert ("do not reach each other" in status.reason) == (not tunnels)


def test_without_a_word_it_is_on_the_projects_first_network(wired, admin):
    instance = wired.launch(name="web")
    port = Port.objects.get(holder_id=instance.pk)
    assert (port.host, port.holder_name) == (None, "web")
    placed = admin.get(f"{admin.at}/instances/web").json()
    assert (placed["host"] is not None, placed["addresses"], placed["address_reason"]) == (True, [], "")
    wired.settle()
    port.refresh_from_db()
    assert port.host is not None
    (told,) = nics(wired, instance)
    assert told | {"awaits": None} == networking.specs.nic(port)
    body = admin.get(f"{admin.at}/instances/web").json()
    address = port.addresses.get().address
    assert body["addresses"] == [
        {"address": address, "family": 4, "network": {"id": str(port.network_id), "name": "default"},
         "port": {"id": str(port.pk), "name": port.name}, "floating_ip": None}
    ]  # fmt: skip
    assert (body["security_groups"], body["address_reason"]) == (["default"], "")
    assert admin.get(f"{admin.at}/instances").json()["items"][0]["addresses"] == body["addresses"]
    assert wired.breaches() == []


def test_its_machine_waits_for_its_network(wired):
    for kinds in wired.kinds:
        kinds[0].broken = "no such luck"
    instance = wired.launch()
    operation = Operation.objects.get(subject_id=instance.pk)
    wired.settle()
    operation.refresh_from_db()
    assert (operation.outcome, operation.reason) == ("failed", "this host cannot make its network: no such luck")
    assert wired.running() == set()
    assert not Port.objects.filter(holder_type="instance").exists()
    for kinds in wired.kinds:
        kinds[0].broken = ""
    wired.do(services.start, instance)
    wired.settle()
    assert len(nics(wired, instance)) == 1
    assert wired.breaches() == []


def test_its_machine_is_ordered_together_with_its_network(wired):
    instance = wired.launch()
    operation = Operation.objects.get(subject_id=instance.pk)
    engine.advance(operation.pk)
    operation.refresh_from_db()
    assert operation.reason == "waiting for the host to make its network and to start it"
    row = NetworkOnHost.objects.get()
    claimed = [(one.order.resource_type, one.spec) for one in orders.claim(row.host, 4)]
    assert claimed[0][0] == "network", "what others wait for comes first"
    (nic,) = dict(claimed)["instance"]["nics"]
    assert nic["awaits"] == {"id": str(row.pk), "generation": row.generation}


def test_a_machine_of_an_older_agent_is_ordered_when_its_network_is_made(wired):
    for kinds, node in zip(wired.kinds, wired.nodes, strict=True):
        del kinds[0].said["awaited"]
        node.heartbeat()
    instance = wired.launch()
    operation = Operation.objects.get(subject_id=instance.pk)
    engine.advance(operation.pk)
    operation.refresh_from_db()
    assert operation.reason == "waiting for the host to make its network"
    assert operation.waits_for == [f"network:{NetworkOnHost.objects.get().pk}"]
    wired.settle()
    assert len(nics(wired, instance)) == 1


def test_a_flavor_says_how_much_passes_its_nics_also_those_of_running_machines(wired, admin):
    def told() -> list[int | None]:
        specs = [spec for at in range(2) for spec in wired.told(at)[0].values()]
        return [port["mbps"] for spec in specs for port in spec["ports"] if port["name"]]

    flavor = f"flavors/{wired.flavor.pk}"
    assert admin.patch(flavor, {"network_mbps": 100}).json()["network_mbps"] == 100
    wired.flavor.refresh_from_db()
    wired.launch(name="web")
    wired.settle()
    assert told() == [100]
    assert admin.patch(flavor, {"network_mbps": 20}).status_code == 200
    assert told() == [20]
    assert admin.patch(flavor, {"network_mbps": None}).status_code == 200
    assert told() == [None]
    for wrong in (0, -1, "fast", 2_000_000, 1.5, True):
        assert admin.patch(flavor, {"network_mbps": wrong}).status_code == 400
    before = NetworkOnHost.objects.get().generation
    assert admin.patch(flavor, {"network_mbps": None, "labels": {"a": "b"}}).status_code == 200
    assert NetworkOnHost.objects.get().generation == before


def test_deleting_it_frees_its_address_at_once(wired):
    instance = wired.launch()
    wired.settle()
    address = Port.objects.get(holder_id=instance.pk).addresses.get().address
    wired.do(services.delete, instance)
    wired.settle()
    assert not Port.objects.filter(holder_type="instance").exists()
    assert not NetworkOnHost.objects.exists()
    again = wired.launch()
    assert Port.objects.get(holder_id=again.pk).addresses.get().address == address
    wired.settle()
    assert wired.breaches() == []


def test_a_port_of_ones_own_stays_when_the_instance_goes(wired):
    port = wired.change(ports.create, network=wired.network, name="mine")
    instance = wired.launch(networks=[Nic(port=port)])
    wired.settle()
    assert [nic["port"] for nic in nics(wired, instance)] == [str(port.pk)]
    with pytest.raises(Problem, match="in use"):
        wired.launch(networks=[Nic(port=port)])
    wired.do(services.delete, instance)
    wired.settle()
    port.refresh_from_db()
    assert (port.holder_id, port.host, port.addresses.count()) == (None, None, 1)


def test_several_nics_have_their_order_addresses_and_groups(wired):
    back = wired.change(networks.create, project=wired.project, name="back")
    wired.change(subnets.create, network=back, name="back", cidr="172.16.0.0/24")
    group = wired.change(security_groups.create, project=wired.project, name="web")
    instance = wired.launch(networks=[Nic(back, "172.16.0.77"), Nic(wired.network)], security_groups=[group])
    wired.settle()
    assert [nic["network"] for nic in nics(wired, instance)] == [str(back.pk), str(wired.network.pk)]
    assert nics(wired, instance)[0]["addresses"] == ["172.16.0.77/24"]
    groups = {group.name for port in ports.held_by("instance", instance.pk) for group in port.security_groups.all()}
    assert groups == {"web"}


def test_a_dry_run_shows_the_address_and_keeps_nothing(wired, admin):
    body = {"name": "web", "flavor": wired.flavor.name, "image": wired.image.name}
    plan = admin.post(f"{admin.at}/instances?dry_run=true", body).json()["plan"]
    assert [one["type"] for one in plan["created"]] == ["port", "instance"]
    assert plan["created"][0]["after"]["addresses"]
    assert not Port.objects.filter(holder_type="instance").exists()


def test_every_fault_of_the_networks_is_named(wired, admin):
    port = wired.change(ports.create, network=wired.network, name="mine")
    body = {
        "name": "web", "flavor": wired.flavor.name, "image": wired.image.name, "security_groups": ["nothing"],
        "networks": [
            {}, {"network": "nothing"}, {"network": "default", "port": "mine"}, {"port": "mine", "address": "10.0.0.5"},
            {"network": "default", "address": "10.0.0.999"}, {"network": "default", "colour": "red"},
        ],
    }  # fmt: skip
    answer = admin.post(f"{admin.at}/instances", body)
    assert {fault["pointer"] for fault in answer.json()["errors"]} == {
        "/security_groups/0", "/networks/0", "/networks/1/network", "/networks/2", "/networks/3/address",
        "/networks/4/address", "/networks/5/colour",
    }  # fmt: skip
    twice = admin.post(f"{admin.at}/instances", {**body, "security_groups": [], "networks": [{"port": "mine"}] * 2})
    assert [fault["pointer"] for fault in twice.json()["errors"]] == ["/networks/1"]
    several = {**body, "count": 2, "security_groups": [], "networks": [{"port": "mine"}]}
    assert admin.post(f"{admin.at}/instances", several).json()["errors"][0]["pointer"] == "/networks/0/port"
    outside = {**body, "security_groups": [], "networks": [{"network": "default", "address": "192.0.2.1"}]}
    assert admin.post(f"{admin.at}/instances", outside).json()["errors"][0]["pointer"] == "/networks/0/0"
    assert port.holder_id is None
    assert not Instance.objects.exists()


def test_a_floating_ip_is_shown_with_the_address(wired, admin, cloud_admin):
    instance = wired.launch(name="web")
    wired.settle()
    admin.post("address-pools", {"name": "outside", "cidr": "203.0.113.0/24"})
    admin.post(f"{admin.at}/floating-ips", {"instance": "web"})
    body = admin.get(f"{admin.at}/instances/{instance.pk}").json()
    assert [one["floating_ip"] for one in body["addresses"]] == ["203.0.113.1"]


def test_neighbours_learn_a_new_name(wired):
    instance = wired.launch(name="web")
    wired.settle()
    wired.do(services.update, instance, name="front")
    host = next(at for at, node in enumerate(wired.nodes) if node.hypervisor.running())
    assert [port["name"] for port in wired.told(host)[0]["default"]["ports"]] == ["front"]


def test_a_clone_is_on_the_same_network_at_an_address_of_its_own(wired):
    source = wired.launch()
    wired.settle()
    (clone,) = wired.do(services.clone, source, name="copy")
    wired.settle()
    addresses = [Port.objects.get(holder_id=one.pk).addresses.get().address for one in (source, clone)]
    assert len(set(addresses)) == 2
    assert len(nics(wired, clone)) == 1
    assert wired.breaches() == []


class Plain(SmallCloud):
    """A node without networks, and a project that has some."""

    def __init__(self, home):
        super().__init__(home)
        with transaction.atomic():
            new_projects.furnish(self.project, ALICE)


def test_on_a_host_without_networks_it_runs_as_before_and_says_why(short_path, api, cloud_admin):
    cloud = Plain(short_path)
    instance = cloud.launch(name="web")
    cloud.settle()
    assert nics(cloud, instance) == []
    body = api.as_(cloud_admin).get(f"projects/{cloud.project.name}/instances/web").json()
    assert (body["addresses"], body["address_reason"]) == ([], "Its host carries no networks.")
    assert cloud.breaches() == []


def test_an_instance_from_before_gets_a_port_at_its_next_start(wired):
    instance = wired.launch(networks=[])
    wired.settle()
    assert nics(wired, instance) == []
    wired.do(services.reboot, instance)
    wired.settle()
    assert nics(wired, instance) == []
    wired.do(services.stop, instance)
    wired.settle()
    wired.do(services.start, instance)
    wired.settle()
    assert len(nics(wired, instance)) == 1
    assert Event.objects.filter(action="network.port.create").exists()
    assert wired.breaches() == []


def test_verify_lets_ports_of_nobody_go(wired):
    instance = wired.launch()
    wired.settle()
    lost = wired.change(ports.create, network=wired.network, holder=Holder("instance", uuid4(), 0, "lost"))
    Port.objects.filter(holder_id=instance.pk).update(host=None)
    Port.objects.filter(pk=lost.pk).update(host=wired.hosts[0])
    (breach,) = [found for found in wired.breaches() if "ports" in found.words]
    breach.repair()
    assert not Port.objects.filter(pk=lost.pk).exists()


def test_two_that_begin_at_once_share_the_row_of_their_network(wired):
    """They are the first of their project on the host."""
    instances = [wired.launch() for _ in range(4)]

    def begin(instance):
        try:
            engine.advance(Operation.objects.get(subject_id=instance.pk).pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(begin, instances))
    reasons = set(Operation.objects.values_list("reason", flat=True))
    assert reasons == {"waiting for the host to make its network and to start it"}
    wired.settle()
    assert len(wired.running()) == 4
    assert wired.breaches() == []


def test_without_networks_of_its_project_nothing_is_plugged_in(cloud):
    instance = cloud.launch()
    cloud.settle()
    assert nics(cloud, instance) == []
    assert not Port.objects.exists()
