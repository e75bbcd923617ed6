"""Hosts that fall silent and are heard again."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now

from cloud.events.models import Event
from cloud.hosts import silence
from cloud.hosts.models import HostPulse

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def long_up(monkeypatch):
    monkeypatch.setattr(silence, "_began", 0)


def said() -> list[tuple[str, str]]:
    events = Event.objects.filter(action__in=("hosts.host.lose", "hosts.host.hear"))
    return list(events.order_by("id").values_list("action", "subject_name"))


def fall_silent(**ago) -> None:
    HostPulse.objects.update(seen_at=Now() - timedelta(**(ago or {"minutes": 5})))


def hints() -> list[str]:
    return [notice.payload for notice in connection.connection.notifies(timeout=0.2)]


def test_a_silence_and_its_end_are_each_noted_once(cloud):
    assert silence.note() == 0
    fall_silent()
    assert (silence.note(), silence.note()) == (1, 0)
    assert said() == [("hosts.host.lose", "node1")]
    cloud.node.heartbeat()
    cloud.node.heartbeat()
    assert said() == [("hosts.host.lose", "node1"), ("hosts.host.hear", "node1")]
    fall_silent()
    assert silence.note() == 1


def test_a_heartbeat_that_is_a_little_late_is_no_silence(cloud):
    fall_silent(seconds=20)
    assert silence.note() == 0
    cloud.node.heartbeat()
    assert said() == []


def test_right_after_its_own_start_the_control_plane_blames_no_host(cloud, monkeypatch):
    monkeypatch.setattr(silence, "_began", silence.time.monotonic())
    fall_silent()
    assert silence.note() == 0
    assert said() == []


def test_open_pages_are_told_of_the_host_and_of_what_is_on_it(cloud):
    instance = cloud.launch(name="web")
    cloud.settle()
    with connection.cursor() as cursor:
        cursor.execute("LISTEN hints")
    for change in (silence.note, cloud.node.heartbeat):
        fall_silent()
        hints()
        change()
        told = "".join(hints())
        assert str(instance.pk) in told
        assert str(instance.host_id) in told
