"""One default route for a machine with several NICs: by the first that has a gateway, or by the one that was chosen."""

from importlib import import_module

import pytest
from django.apps import apps

from cloud.events.models import Event
from cloud.hosts.reconcile import reconcile
from compute import services
from compute.networking import Nic
from network.models import Network, NetworkOnHost, Port
from network.services import networks, subnets
from tests.network.clouds import Wired

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def wired(short_path):
    """A cloud whose project also has the networks `back`, with IPv6, and `apart`, which has no gateway."""
    wired = Wired(short_path)
    for name, gateway in (("back", "10.9.0.1"), ("apart", None)):
        network = wired.change(networks.create, project=wired.project, name=name)
        cidr = "10.9.0.0/24" if gateway else "10.8.0.0/24"
        wired.change(subnets.create, network=network, name=name, cidr=cidr, gateway=gateway)
    back = wired.project.networks.get(name="back")
    wired.change(subnets.create, network=back, name="back6", cidr="fd12::/64")
    return wired


@pytest.fixture
def client(wired, api, cloud_admin):
    client = api.as_(cloud_admin)
    client.at = f"projects/{wired.project.name}"
    return client


def nics(wired, *names, gateway=""):
    return [Nic(wired.project.networks.get(name=name), gateway=name == gateway) for name in names]


def launch(wired, *names, gateway=""):
    instance = wired.launch(name="web", networks=nics(wired, *names, gateway=gateway))
    wired.settle()
    return instance


def aside(wired):
    """By network, the families whose gateway the guest of `web` is not told there."""
    told = {name: spec for at in (0, 1) for name, spec in wired.told(at)[0].items()}
    return {name: port["aside"] for name, spec in told.items() for port in spec["ports"] if port["name"] == "web"}


def leads(client):
    """The networks by which its default route is said to lead."""
    items = client.get(f"{client.at}/ports").json()["items"]
    return {one["network"]["name"] for one in items if one["gateway"]}


def port(client, network):
    items = client.get(f"{client.at}/ports?network={network}").json()["items"]
    [found] = [one for one in items if one["instance"]]
    return f"{client.at}/ports/{found['id']}"


def test_without_a_word_it_is_the_first_nic_that_has_a_gateway_in_each_family(wired, client):
    launch(wired, "apart", "default", "back")
    assert aside(wired) == {"apart": [], "default": [], "back": [4]}
    assert leads(client) == {"default", "back"}  # by the latter IPv6


def test_the_one_that_was_chosen_at_the_launch_has_it(wired, client):
    answer = client.post(
        f"{client.at}/instances",
        {"name": "web", "flavor": wired.flavor.name, "image": wired.image.name,
         "networks": [{"network": "default"}, {"network": "back", "gateway": True}]},
    )  # fmt: skip
    assert answer.status_code == 202, answer.content
    wired.settle()
    assert aside(wired) == {"default": [4], "back": []}
    assert leads(client) == {"back"}


def test_it_is_moved_and_moved_back_by_a_later_choice(wired, client):
    launch(wired, "default", "back")
    chosen = client.patch(port(client, "back"), {"gateway": True})
    assert (chosen.status_code, chosen.json()["gateway"]) == (200, True)
    assert aside(wired) == {"default": [4], "back": []}
    assert Event.objects.get(action="network.port.update").after["gateway"] is True
    assert client.patch(port(client, "back"), {"gateway": False}).json()["gateway"] is True  # IPv6 still is by it
    assert aside(wired) == {"default": [], "back": [4]}


def test_a_nic_that_comes_takes_it_and_gives_it_back_when_it_goes(wired, client):
    launch(wired, "default")
    assert client.post(f"{client.at}/instances/web/attach-nic", {"network": "back", "gateway": True}).status_code == 202
    wired.settle()
    assert aside(wired) == {"default": [4], "back": []}
    assert client.post(f"{client.at}/instances/web/detach-nic", {"network": "back"}).status_code == 202
    wired.settle()
    assert aside(wired) == {"default": []}


def test_a_nic_that_could_not_be_plugged_in_leaves_the_earlier_choice(wired, client):
    network = wired.change(networks.create, project=wired.project, name="third")
    wired.change(subnets.create, network=network, name="third", cidr="10.7.0.0/24")
    instance = launch(wired, "default", "back", gateway="back")
    for kinds in wired.kinds:
        kinds[0].broken = "no such luck"
    wired.do(services.attach_nic, instance, network=network, gateway=True)
    assert leads(client) == {"third", "back"}  # by the latter IPv6
    wired.settle()
    for kinds in wired.kinds:
        kinds[0].broken = ""
    Network.objects.get(name="third").on_hosts.all().delete()
    NetworkOnHost.objects.update(seen="unknown")
    reconcile()
    wired.look()
    assert leads(client) == {"back"}
    assert aside(wired) == {"default": [4], "back": []}


def test_hosts_hear_of_machines_that_had_several_nics_before_there_was_a_choice(wired, client):
    launch(wired, "default", "back")
    wired.plug(1, network=wired.project.networks.get(name="apart"))
    wired.look()
    before = dict(NetworkOnHost.objects.values_list("network__name", "generation"))
    import_module("network.migrations.0007_tell_default_routes").tell_hosts(apps, None)
    after = dict(NetworkOnHost.objects.values_list("network__name", "generation"))
    assert {name for name in after if after[name] != before[name]} == {"default", "back"}
    reconcile()
    wired.look()
    assert all(row.is_true for row in NetworkOnHost.objects.all())


def test_it_is_there_again_after_the_trash(wired, client):
    instance = launch(wired, "default", "back", gateway="back")
    wired.do(services.discard, instance)
    wired.settle()
    assert not Port.objects.filter(holder_id=instance.pk).exists()
    wired.do(services.restore, instance)
    assert list(Port.objects.filter(holder_id=instance.pk, gateway=True).values_list("network__name", flat=True)) == [
        "back"
    ]


def test_what_cannot_be_is_refused_in_words(wired, client):
    def faults(answer):
        assert answer.status_code == 400, answer.content
        return [(fault["pointer"], fault["message"]) for fault in answer.json()["errors"]]

    launched = {"name": "other", "flavor": wired.flavor.name, "image": wired.image.name}
    both = [{"network": "default", "gateway": True}, {"network": "back", "gateway": True}]
    assert faults(client.post(f"{client.at}/instances", {**launched, "networks": both})) == [
        ("/networks/1/gateway", "Only one NIC has the default route.")
    ]
    lost = [{"network": "default"}, {"network": "apart", "gateway": True}]
    (fault,) = faults(client.post(f"{client.at}/instances", {**launched, "networks": lost}))
    assert fault[0] == "/networks/1/gateway"
    assert "has a gateway" in fault[1]
    launch(wired, "default", "apart")
    attached = client.post(f"{client.at}/instances/web/attach-nic", {"network": "apart", "gateway": True})
    assert [pointer for pointer, _ in faults(attached)] == ["/gateway"]
    assert "first NIC" in faults(client.patch(port(client, "default"), {"gateway": False}))[0][1]
    assert "has a gateway" in faults(client.patch(port(client, "apart"), {"gateway": True}))[0][1]
    made = client.post(f"{client.at}/ports", {"name": "free", "network": "default"}).json()
    assert "not plugged" in faults(client.patch(f"{client.at}/ports/{made['id']}", {"gateway": True}))[0][1]
    assert leads(client) == {"default"}
