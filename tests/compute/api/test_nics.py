"""NICs that come and go: by the API, on machines that run and that stand."""

import pytest

from cloud.operations.models import Operation
from compute.models import Instance
from network.models import Port
from network.services import networks, subnets
from tests.network.clouds import Wired

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def wired(short_path):
    wired = Wired(short_path)
    network = wired.change(networks.create, project=wired.project, name="back")
    wired.change(subnets.create, network=network, name="back", cidr="10.9.0.0/24")
    return wired


@pytest.fixture
def web(wired):
    instance = wired.launch(name="web")
    wired.settle()
    return instance


@pytest.fixture
def call(wired, api, cloud_admin):
    """Do a verb to web; its answer. Whatever follows has happened."""
    client = api.as_(cloud_admin)

    def do(verb, body, status=202, settle=True):
        answer = client.post(f"projects/{wired.project.name}/instances/web/{verb}", body)
        assert answer.status_code == status, answer.content
        if settle:
            wired.settle()
        return answer.json()

    return do


def plugged(wired, instance):
    """By slot, the MAC addresses that its emulator has."""
    [node] = [node for node in wired.nodes if str(instance.pk) in node.hypervisor.running()]
    return node.hypervisor.nics(str(instance.pk))


def macs(instance):
    return {port.holder_slot: port.mac for port in Port.objects.filter(holder_id=instance.pk)}


def latest(instance):
    return Operation.objects.filter(subject_id=instance.pk).latest("started_at")


def test_a_nic_comes_and_goes_while_it_runs(wired, web, call):
    body = call("attach-nic", {"network": "back", "address": "10.9.0.77"})
    assert body["operation"]["kind"] == "compute.attach-nic"
    assert (latest(web).outcome, set(macs(web))) == ("done", {0, 1})
    assert plugged(wired, web) == macs(web)
    assert wired.nodes[0].hypervisor.starts(str(web.pk)) + wired.nodes[1].hypervisor.starts(str(web.pk)) == 1
    call("attach-nic", {"network": "back"})
    gone = Port.objects.get(holder_id=web.pk, holder_slot=1)
    call("detach-nic", {"port": gone.name})
    assert plugged(wired, web) == macs(web)
    assert set(macs(web)) == {0, 2}
    assert not Port.objects.filter(pk=gone.pk).exists()
    call("attach-nic", {"network": "back", "address": "10.9.0.77"})
    assert set(plugged(wired, web)) == {0, 1, 2}
    assert wired.breaches() == []


def test_a_port_that_was_there_before_stays(wired, web, call, api, cloud_admin):
    client = api.as_(cloud_admin)
    made = client.post(f"projects/{wired.project.name}/ports", {"name": "mine", "network": "back"})
    assert made.status_code == 201
    call("attach-nic", {"port": "mine"})
    assert plugged(wired, web)[1] == Port.objects.get(name="mine").mac
    call("detach-nic", {"network": "back"})
    port = Port.objects.get(name="mine")
    assert (port.holder_id, port.host_id) == (None, None)
    assert set(plugged(wired, web)) == {0}


def test_what_stands_takes_it_at_its_next_start(wired, web, call):
    call("stop", {"force": True})
    call("attach-nic", {"network": "back"})
    assert latest(web).outcome == "done"
    call("detach-nic", {"network": "default"})
    call("start", {})
    assert plugged(wired, web) == macs(web)
    assert set(macs(web)) == {1}


def test_a_guest_that_does_not_let_go_keeps_its_nic(wired, web, call):
    for node in wired.nodes:
        node.hypervisor.clings = "its guest does not let go of it"
    before = macs(web)
    call("detach-nic", {"network": "default"})
    assert (latest(web).outcome, latest(web).reason) == ("failed", "its guest does not let go of it")
    assert plugged(wired, web) == macs(web) == before
    assert wired.breaches() == []


def test_a_network_that_its_host_cannot_make_leaves_nothing(wired, web, call):
    for kinds in wired.kinds:
        kinds[0].broken = "no such luck"
    call("attach-nic", {"network": "back"})
    assert (latest(web).outcome, latest(web).reason) == ("failed", "Its host cannot make its network: no such luck")
    assert set(macs(web)) == {0}


@pytest.mark.parametrize(
    ("verb", "body", "pointer"),
    [
        ("attach-nic", {}, ""),
        ("attach-nic", {"network": "back", "port": "nothing"}, "/port"),
        ("attach-nic", {"network": "back", "address": "192.0.2.1"}, "/address/0"),
        ("detach-nic", {"network": "back"}, "/network"),
        ("detach-nic", {"port": "lonely"}, "/port"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(wired, web, call, api, cloud_admin, verb, body, pointer):
    made = api.as_(cloud_admin).post(f"projects/{wired.project.name}/ports", {"name": "lonely", "network": "back"})
    assert made.status_code == 201
    answer = call(verb, body, status=400, settle=False)
    assert pointer in [fault["pointer"] for fault in answer["errors"]]
    assert latest(web).kind == "compute.launch"


def test_a_hypervisor_that_plugs_nothing_says_so_before_anything_begins(wired, web, call):
    for node in wired.nodes:
        node.hypervisor.verbs = ["pause"]
        node.heartbeat()
    answer = call("attach-nic", {"network": "back"}, status=409, settle=False)
    assert answer["detail"] == "web runs, and qemu on its host plugs nothing into a running machine. Stop it first."
    assert set(macs(web)) == {0}
    assert Instance.objects.get(pk=web.pk).machine.generation == Instance.objects.get(pk=web.pk).machine.seen_generation


def test_there_are_eight_at_most(wired, web, call):
    for slot in range(1, 8):
        wired.change(networks.create, project=wired.project, name=f"net-{slot}")
        call("attach-nic", {"network": f"net-{slot}"}, settle=False)
        wired.settle()
    assert set(plugged(wired, web)) == set(range(8))
    answer = call("attach-nic", {"network": "back"}, status=400, settle=False)
    assert answer["detail"] == "web has 8 NICs, and can have no more."
