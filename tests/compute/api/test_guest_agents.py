"""What users notice of a guest agent: that it answers, what snapshots are worth, and a password without a reboot."""

import base64
from contextlib import contextmanager

import pytest
from django.db import transaction

from compute import hosted, logins, services
from compute.models import Instance
from storage.models import Snapshot
from storage.services import snapshots, volumes
from tests import factories
from tests.clouds import ALICE, SmallCloud
from tests.guest_agents import FakeAgent, look
from tests.storage.clouds import kind_of, settle

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def cloud(short_path):
    made = SmallCloud(short_path)
    kind_of(made)
    return made


@pytest.fixture
def mia(cloud, api):
    return api.as_(factories.member(cloud.project))


@pytest.fixture
def path(cloud):
    return f"projects/{cloud.project.name}/instances/web"


@pytest.fixture
def web(cloud, mia):
    """An instance with a volume that runs."""
    body = {"name": "web", "flavor": cloud.flavor.name, "image": cloud.image.name}
    answer = mia.post(
        f"projects/{cloud.project.name}/instances", {**body, "volumes": [{"size_gib": 1, "name": "data"}]}
    )
    assert answer.status_code == 202, answer.data
    settle(cloud)
    return Instance.objects.get()


@contextmanager
def agent_in(cloud, web):
    with FakeAgent(cloud.node.home(str(web.pk))) as agent:
        cloud.node.hypervisor.open_channel(str(web.pk))
        assert look(cloud.node, str(web.pk))
        cloud.node.send_reports()
        yield agent


def keep(cloud, name):
    """What a snapshot of the volume is worth."""
    with transaction.atomic():
        volumes.snapshot(volume=cloud.project.volumes.get(), actor=ALICE, name=name)
    settle(cloud)
    return Snapshot.objects.get(name=name).consistency


def test_it_is_shown_while_it_answers(cloud, mia, path, web):
    assert mia.get(path).json()["guest_agent"] is None
    with agent_in(cloud, web):
        assert mia.get(path).json()["guest_agent"] == {"version": "7.2.0", "can": ["freeze", "password"]}
        [listed] = mia.get(path.rpartition("/")[0]).json()["items"]
        assert listed["guest_agent"] is None, "lists do not say"
    cloud.do(services.stop, web)
    settle(cloud)
    assert mia.get(path).json()["guest_agent"] is None


def test_snapshots_say_whether_the_guest_held_still(cloud, web):
    assert keep(cloud, "before") == "crash"
    with agent_in(cloud, web) as agent:
        assert keep(cloud, "still") == "filesystem"
        agent.commands = ("guest-info", "guest-fsfreeze-thaw")
        assert keep(cloud, "after") == "crash"
        with transaction.atomic():
            snapshots.delete(snapshot=Snapshot.objects.get(name="after"), actor=ALICE)
    assert {one.name: one.consistency for one in Snapshot.objects.all()} == {"before": "crash", "still": "filesystem"}
    assert cloud.breaches() == []


def test_a_password_is_set_at_once_and_by_no_start(cloud, mia, path, web):
    with agent_in(cloud, web) as agent:
        answer = mia.post(f"{path}/reset-password", {"reboot": True})
        assert answer.status_code == 202, answer.data
        settle(cloud)
        assert not mia.get(path).json()["password_waits"]
        [(user, told)] = agent.passwords.items()
        assert (user, logins.matches(answer.json()["generated_password"], base64.b64decode(told).decode())) == (
            "root", True,
        )  # fmt: skip
    assert (cloud.node.hypervisor.starts(str(web.pk)), cloud.node.hypervisor.resets(str(web.pk))) == (1, 0)
    seed = hosted.spec(Instance.objects.get().machine, "ensure_running")["seed"]
    assert seed["password_reset"] is None, "who changes it in the guest keeps that"
    assert logins.matches(answer.json()["generated_password"], seed["password_hash"]), "for a guest that begins anew"


def test_what_a_start_has_told_no_agent_tells_again(cloud, mia, path, web):
    mia.post(f"{path}/reset-password", {"reboot": True})
    settle(cloud)
    assert not mia.get(path).json()["password_waits"]
    for verb in ("suspend", "resume"):  # another emulator, to whose facts nothing of it came
        mia.post(f"{path}/{verb}", {})
        settle(cloud)
    with agent_in(cloud, web) as agent:
        mia.post(f"{path}/reboot", {"hard": True})
        settle(cloud)
        assert agent.passwords == {}


def test_what_it_does_not_set_waits_for_a_start(cloud, mia, path, web):
    with agent_in(cloud, web) as agent:
        mia.post(f"{path}/reset-password", {"user": "bob"})
        settle(cloud)
        assert (agent.passwords, mia.get(path).json()["password_waits"]) == ({}, True)
    mia.post(f"{path}/reboot", {})
    settle(cloud)
    assert not mia.get(path).json()["password_waits"]
