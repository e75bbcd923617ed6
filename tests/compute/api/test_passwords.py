"""A new password for a guest: shown once, kept as a hash, told to the guest by its next start."""

import json

import pytest

from cloud.api.models import IdempotencyKey
from cloud.events.models import Event
from cloud.operations.models import Operation
from compute import hosted, logins, services
from compute.models import Instance
from tests import factories
from tests.clouds import SmallCloud

pytestmark = pytest.mark.django_db(transaction=True)
URL = "projects/{}/instances/web/reset-password"


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def cloud(short_path):
    return SmallCloud(short_path)


@pytest.fixture
def mia(cloud, api):
    return api.as_(factories.member(cloud.project))


@pytest.fixture
def web(cloud):
    cloud.launch(name="web")
    cloud.settle()
    return Instance.objects.get()


@pytest.fixture
def reset(cloud, mia, web):
    def post(body, status=202, **headers):
        answer = mia.post(URL.format(cloud.project.name), body, **headers)
        assert answer.status_code == status, answer.data
        return answer.json()

    return post


def seed(verb="ensure_running"):
    return hosted.spec(Instance.objects.get().machine, verb)["seed"]


def shown(mia, cloud):
    return mia.get(URL.format(cloud.project.name).rpartition("/")[0]).json()


def test_a_generated_password_is_told_to_its_owner_and_to_the_guest_as_a_hash(cloud, mia, reset):
    secret = reset({}, headers={"Idempotency-Key": "once"})["generated_password"]
    told = seed()
    assert (told["password_reset"]["user"], told["password_reset"]["hash"]) == ("root", told["password_hash"])
    assert logins.matches(secret, told["password_hash"])
    assert seed("ensure_stopped")["password_reset"] is None
    assert reset({}, headers={"Idempotency-Key": "once"})["generated_password"] == secret, "a lost answer is repeated"
    kept = [*Event.objects.values(), *Operation.objects.values(), *IdempotencyKey.objects.values()]
    assert not any(text in json.dumps(kept, default=str) for text in (secret, "$6$"))
    later = reset({"password": "correct horse"}, 409)
    assert later["code"] == "busy"
    cloud.settle()
    assert reset({"password": "correct horse"})["generated_password"] is None
    assert reset({}, headers={"Idempotency-Key": "once"})["generated_password"] is None, "it is not the last one"


def test_it_waits_for_the_next_start_of_the_guest(cloud, mia, reset):
    reset({})
    cloud.settle()
    assert shown(mia, cloud)["password_waits"]
    reset({"reboot": True})
    cloud.settle()
    assert not shown(mia, cloud)["password_waits"]
    cloud.do(services.stop, Instance.objects.get())
    cloud.settle()
    reset({"user": "bob"})
    cloud.settle()
    assert shown(mia, cloud)["password_waits"]
    assert (seed()["password_reset"]["user"], seed()["password_hash"]) == ("bob", ""), "the default user's is another"
    cloud.do(services.start, Instance.objects.get())
    cloud.settle()
    assert not shown(mia, cloud)["password_waits"]


def test_a_cancelled_one_is_forgotten(cloud, mia, reset):
    operation = reset({})["operation"]["id"]
    mia.post(f"projects/{cloud.project.name}/operations/{operation}/cancel", {})
    cloud.settle()
    assert (seed()["password_reset"], shown(mia, cloud)["password_waits"]) == (None, False)


def test_bad_input_is_named_at_once(reset):
    faults = reset({"user": "-rf; x", "password": "short", "reboot": "yes"}, 400)["errors"]
    assert {fault["pointer"] for fault in faults} == {"/user", "/password", "/reboot"}


def test_many_get_the_one_that_is_given(cloud, mia, web):
    path, many = f"projects/{cloud.project.name}/instance-actions", {"verb": "reset-password", "instances": ["web"]}
    [refused] = mia.post(path, many).json()["items"]
    assert refused["problem"]["errors"][0]["pointer"] == "/password"
    assert mia.post(path, {**many, "password": "correct horse"}).json()["items"][0]["operation"]
    assert logins.matches("correct horse", seed()["password_hash"])
