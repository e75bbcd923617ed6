"""How a start went: every step that is known, in order, and READY when the guest has said it anew."""

import pytest
from django.db import transaction

from cloud.tenancy.models import Role
from compute import boots, console_logs, services
from compute.models import ConsoleLog, Instance
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


def push(instance, content, offset=0):
    with transaction.atomic():
        host = Instance.objects.get(pk=instance.pk).host
        assert console_logs.keep(host=host, instance_id=instance.pk, offset=offset, content=content)


def names(instance):
    steps = boots.timeline(Instance.objects.get(pk=instance.pk))
    seconds = [step.seconds for step in steps]
    assert seconds == sorted(seconds)
    return [step.name for step in steps]


def test_a_launch_is_told_from_asking_to_ready(cloud):
    instance = cloud.launch(name="web")
    assert names(instance) == ["asked", "placed"]
    cloud.settle()
    assert names(instance) == ["asked", "placed", "ordered", "started"]
    push(instance, b"[    0.000000] Linux\r\n")
    assert names(instance)[-1] == "started"
    push(instance, b"[    0.000000] Linux\r\nREADY web 0.01\r\nlogin: ")
    assert names(instance) == ["asked", "placed", "ordered", "started", "kernel", "ready"]


def test_ready_is_heard_once_and_again_after_a_reboot(cloud):
    instance = cloud.launch(name="web")
    cloud.settle()
    said = b"READY web 2.31\n"
    push(instance, said)
    first = ConsoleLog.objects.get().ready_at
    push(instance, said + b"login: ")
    push(instance, (said + b"login: root\n")[5:], offset=5)
    assert ConsoleLog.objects.get().ready_at == first
    cloud.do(services.reboot, instance)
    cloud.settle()
    assert "ready" not in names(instance)
    push(instance, said + b"login: root\n" + said)
    assert names(instance)[-1] == "ready"
    assert ConsoleLog.objects.get().ready_seconds == 2.31


@pytest.mark.parametrize(
    "text", [b"READY web\n", b"say READY web 1.0\n", b"READY web soon\n", b"READY web 1" + b"0" * 400]
)
def test_what_only_looks_like_it_is_not_believed(cloud, text):
    instance = cloud.launch(name="web")
    cloud.settle()
    push(instance, text)
    assert ConsoleLog.objects.get().ready_at is None


def test_the_api_shows_it(cloud, api):
    cloud.launch(name="web")
    cloud.settle()
    vera = api.as_(factories.member(cloud.project, Role.VIEWER, "vera"))
    steps = vera.get(f"projects/{cloud.project.name}/instances/web/boot").json()["steps"]
    assert [step["name"] for step in steps] == ["asked", "placed", "ordered", "started"]
    assert steps[0]["seconds"] == 0
