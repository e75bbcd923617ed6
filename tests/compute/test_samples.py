"""What instances use: taken in in one statement, packed as it ages, given out with its gaps."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.db import DataError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cloud.events.services import Actor
from cloud.tenancy import new_projects
from compute import samples
from compute.models import (
    DISK_METRICS,
    METRICS,
    DeviceDay,
    DeviceHour,
    DeviceSample,
    Instance,
    Sample,
    SampleDay,
    SampleHour,
)
from network.models import Port
from network.services import ports
from storage.models import Attachment
from storage.services import volumes
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def host():
    return factories.host("node1")


@pytest.fixture
def instance(host, project):
    return place(host, project, "web")


def place(host, project, name):
    flavor, image = factories.flavor(), factories.image()
    made = Instance.objects.create(
        project=project, name=name, flavor=flavor, vcpus=1, memory_mib=256, disk_gib=1, image=image, created_by="mia"
    )
    return factories.place(made, host)


def put(instance, at, cpu=50.0, **values):
    Sample.objects.create(instance_id=instance.pk, at=at, cpu_percent=cpu, memory_mib=100, **values)


def test_a_batch_is_one_statement_and_only_of_the_hosts_own(host, instance, project):
    others = place(factories.host("node2"), project, "foreign")
    batch = [
        {"id": str(instance.pk), "age": age, "cpu_percent": 12.5, "memory_mib": 90} for age in (0, 10.25, 601, -1)
    ] + [{"id": str(others.pk), "age": 0, "cpu_percent": 1}, {"id": str(project.pk), "age": 0}, {"age": 1}]
    with CaptureQueriesContext(connection) as queries:
        assert samples.take_in(host=host, samples=batch) == 2
    assert len([query for query in queries if "SAVEPOINT" not in query["sql"]]) == 1
    assert {sample.instance_id for sample in Sample.objects.all()} == {instance.pk}
    newest, older = Sample.objects.order_by("-at")
    assert newest.at - older.at == timedelta(seconds=10.25)
    assert (newest.cpu_percent, newest.memory_mib, newest.disk_reads_per_second) == (12.5, 90, None)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", -1])
def test_what_is_no_measure_is_a_gap(host, instance, value):
    samples.take_in(host=host, samples=[{"id": str(instance.pk), "age": 0, "cpu_percent": value, "memory_mib": 1}])
    assert Sample.objects.values_list("cpu_percent", "memory_mib").get() == (None, 1)


@pytest.mark.parametrize("wrong", [{"id": "x", "age": 0}, {"age": "soon"}, {"cpu_percent": 1e300}, 7, "x", None, [1]])
def test_what_cannot_be_read_is_refused(host, wrong):
    with pytest.raises(DataError):
        samples.take_in(host=host, samples=[wrong])


def test_an_hour_has_places_for_what_was_not_measured(host, instance):
    age = {"id": str(instance.pk), "memory_mib": 100}
    samples.take_in(host=host, samples=[{**age, "age": 0.2}, {**age, "age": 10.1}, {**age, "age": 40.3}])
    found = samples.series(instance, samples.SPANS["1h"])
    assert (found.step, len(found.values["memory_mib"])) == (10, 360)
    assert found.values["memory_mib"][-5:] == [100, None, None, 100, 100]
    assert set(found.values["cpu_percent"]) == {None}


def test_what_has_stopped_to_come_leaves_a_gap_up_to_now(host, instance):
    samples.take_in(host=host, samples=[{"id": str(instance.pk), "age": 105, "memory_mib": 100}])
    assert samples.series(instance, samples.SPANS["1h"]).values["memory_mib"][-12:] == [None, 100, *[None] * 10]


def test_nothing_measured_is_nothing_but_gaps(instance):
    for name, span in samples.SPANS.items():
        found = samples.series(instance, span)
        assert {len(values) for values in found.values.values()} == {span.seconds // span.step}, name
        assert {value for values in found.values.values() for value in values} == {None}


def test_what_is_over_is_packed_once_and_what_is_old_is_forgotten(instance, monkeypatch):
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    for minute in range(0, 24 * 60, 7):
        put(instance, midnight + timedelta(minutes=minute, seconds=3), cpu=10.0, disk_writes_per_second=2)
        put(instance, midnight + timedelta(minutes=minute, seconds=13), cpu=30.0)
    now = midnight + timedelta(days=1, minutes=20)
    samples.pack(now)
    assert SampleHour.objects.count() == 24
    first = SampleHour.objects.get(at=midnight)
    assert first.cpu_percent[:8] == [20, None, None, None, None, None, None, 20]
    assert first.disk_writes_per_second[0] == 2
    assert len(first.network_sent_bytes_per_second) == 60
    day = SampleDay.objects.get()
    assert (day.at, len(day.cpu_percent), set(day.cpu_percent)) == (midnight, 96, {20})
    assert not Sample.objects.filter(at__lt=now - timedelta(hours=1)).exists()
    samples.pack(now)
    assert (SampleHour.objects.count(), SampleDay.objects.count()) == (24, 1)

    monkeypatch.setattr(samples, "_now", lambda: now)
    by_day = samples.series(instance, samples.SPANS["1d"]).values["cpu_percent"]
    assert len([value for value in by_day if value is not None]) == 24 * 60 // 7 - 2  # of the first 21 minutes
    by_month = samples.series(instance, samples.SPANS["30d"])
    assert by_month.start + timedelta(days=30) == midnight + timedelta(days=1, minutes=30)
    assert by_month.values["cpu_percent"][-98:] == [20] * 96 + [None, None]

    # What another version packed lacks metrics of this one.
    SampleDay.objects.update(network_sent_packets_per_second=None)
    by_month = samples.series(instance, samples.SPANS["30d"]).values
    assert by_month["cpu_percent"][-98:-2] == [20] * 96
    assert set(by_month["network_sent_packets_per_second"]) == {None}

    samples.pack(now + timedelta(days=2))
    assert (SampleHour.objects.count(), SampleDay.objects.count()) == (0, 1)
    samples.pack(now + timedelta(days=32))
    assert not SampleDay.objects.exists()


def test_the_packed_and_the_fresh_make_one_series_without_seams(instance, monkeypatch):
    now = datetime(2026, 3, 2, 12, 30, tzinfo=UTC)
    for number in range(40 * 60):
        put(instance, now - timedelta(minutes=number, seconds=30))
    samples.pack(now)
    assert Sample.objects.count() < 120
    assert SampleDay.objects.count() >= 1
    monkeypatch.setattr(samples, "_now", lambda: now)
    assert samples.series(instance, samples.SPANS["1d"]).values["cpu_percent"][:-1] == [50] * 1439
    by_month = samples.series(instance, samples.SPANS["30d"]).values["cpu_percent"]
    assert by_month[-160:-1] == [50] * 159


def test_a_host_may_be_away_for_days(instance):
    begun = datetime(2026, 3, 1, 5, tzinfo=UTC)
    put(instance, begun)
    put(instance, begun + timedelta(days=3))
    samples.pack(begun + timedelta(days=4))
    assert [row.at.day for row in SampleDay.objects.order_by("at")] == [1, 4]


def test_a_range_begins_and_ends_where_it_is_asked_to(instance, monkeypatch):
    now = datetime(2026, 3, 1, 12, 20, tzinfo=UTC)
    monkeypatch.setattr(samples, "_now", lambda: now)
    for minute in range(30):
        put(instance, now - timedelta(hours=3, minutes=minute), cpu=float(minute))
    samples.pack(now)
    span = samples.Span(600, 60, until=now - timedelta(hours=3, minutes=5))
    found = samples.series(instance, span)
    assert found.start == now - timedelta(hours=3, minutes=15)
    assert found.values["cpu_percent"] == [15, 14, 13, 12, 11, 10, 9, 8, 7, 6]


def test_a_range_is_as_fine_as_what_is_kept_of_it(api, viewer, instance, host):
    vera, now = api.as_(viewer), timezone.now()
    samples.take_in(host=host, samples=[{"id": str(instance.pk), "age": 65, "cpu_percent": 12}])

    def asked(begin, end=None):
        moments = {"from": (now - begin).isoformat(), **({"to": (now - end).isoformat()} if end else {})}
        return vera.get(f"projects/demo/instances/web/metrics?{urlencode(moments)}")

    recent = asked(timedelta(minutes=10)).json()
    assert (recent["span"], recent["step_seconds"]) == (None, 10)
    assert 12 in recent["metrics"]["cpu_percent"]["values"]
    assert 12 in asked(timedelta(minutes=2), timedelta(minutes=1)).json()["metrics"]["cpu_percent"]["values"]
    assert asked(timedelta(hours=5), timedelta(hours=4)).json()["step_seconds"] == 60
    assert asked(timedelta(days=5), timedelta(days=5) - timedelta(hours=1)).json()["step_seconds"] == 900
    whole = asked(timedelta(days=30)).json()
    assert len(whole["metrics"]["cpu_percent"]["values"]) in (30 * 96, 30 * 96 + 1)
    for wrong in ((timedelta(hours=1), timedelta(hours=2)), (timedelta(days=40),), (-timedelta(hours=1),)):
        assert asked(*wrong).json()["errors"][0]["pointer"] == "?from"
    for query in ("to=2026-03-01T00:00:00Z", "span=1h&from=2026-03-01T00:00:00Z", "from=soon"):
        assert vera.get(f"projects/demo/instances/web/metrics?{query}").status_code == 400


def test_disks_and_nics_are_kept_one_by_one(api, viewer, host, instance, project):
    """Those of the instance: a host can tell of nothing else, so what is kept is bounded."""
    new_projects.furnish(project, Actor("mia"))
    network = project.networks.get()
    port = ports.create(actor=Actor("mia"), name="front", network=network)
    Port.objects.filter(pk=port.pk).update(holder_type="instance", holder_id=instance.pk, holder_slot=0)
    data = volumes.create(project=project, actor=Actor("mia"), name="data", size_gib=1)
    Attachment.objects.create(
        volume=data, holder_type="instance", holder_id=instance.pk, holder_name=instance.name, slot=1
    )
    other = volumes.create(project=project, actor=Actor("mia"), name="other", size_gib=1)
    reads, sent = {"disk_reads_per_second": 5}, {"network_sent_bytes_per_second": 7}
    told = [
        {"id": str(instance.pk), "age": 5, "device": str(device), **rates}
        for device, rates in ((instance.pk, reads), (data.pk, reads), (port.pk, sent), (other.pk, reads))
    ]
    samples.take_in(host=host, samples=[{"id": str(instance.pk), "age": 5}], devices=told)
    assert DeviceSample.objects.count() == 3
    shown = api.as_(viewer).get("projects/demo/instances/web/metrics").json()
    assert {disk["name"] for disk in shown["disks"].values()} == {"web", "data"}
    assert shown["disks"][str(data.pk)]["metrics"]["disk_reads_per_second"]["values"][-1] == 5
    assert set(shown["disks"][str(data.pk)]["metrics"]) == set(DISK_METRICS)
    [nic] = shown["nics"].values()
    assert nic["name"].startswith("default (")
    assert nic["metrics"]["network_sent_bytes_per_second"]["values"][-1] == 7
    with pytest.raises(DataError):
        samples.take_in(host=host, samples=[], devices=[{"id": str(instance.pk), "age": 5, "device": "vda"}])


def test_disks_and_nics_are_packed_like_the_instance(instance, monkeypatch):
    midnight, disk = datetime(2026, 3, 1, tzinfo=UTC), uuid4()
    for device, reads in ((instance.pk, 10), (disk, 30)):
        for minute in range(0, 24 * 60, 20):
            DeviceSample.objects.create(
                instance_id=instance.pk, device_id=device, at=midnight + timedelta(minutes=minute, seconds=5),
                disk_reads_per_second=reads,
            )  # fmt: skip
    now = midnight + timedelta(days=1, minutes=20)
    samples.pack(now)
    assert (DeviceHour.objects.count(), DeviceDay.objects.count()) == (48, 2)
    assert DeviceHour.objects.get(at=midnight, device_id=disk).disk_reads_per_second[:2] == [30, None]
    monkeypatch.setattr(samples, "_now", lambda: now)
    for name in ("1d", "30d"):
        found = samples.series(instance, samples.SPANS[name]).devices
        assert {key: set(each["disk_reads_per_second"]) for key, each in found.items()} == {
            instance.pk: {10, None}, disk: {30, None},
        }, name  # fmt: skip
    samples.pack(now + timedelta(days=32))
    assert [kept.objects.count() for kept in (DeviceSample, DeviceHour, DeviceDay)] == [0, 0, 0]


def test_the_api_names_every_unit(api, project, viewer, instance, host):
    samples.take_in(host=host, samples=[{"id": str(instance.pk), "age": 1, "cpu_percent": 12.345}])
    vera = api.as_(viewer)
    shown = vera.get("projects/demo/instances/web/metrics?span=1h").json()
    assert (shown["span"], shown["step_seconds"], set(shown["metrics"])) == ("1h", 10, set(METRICS))
    assert shown["metrics"]["cpu_percent"]["values"][-1] == 12.35
    assert shown["metrics"]["cpu_percent"]["unit"] == "percent of its vCPUs"
    assert shown["metrics"]["disk_reads_per_second"] == {"unit": "operations/s", "values": [None] * 360}
    assert vera.get("projects/demo/instances/web/metrics?span=1w").status_code == 400
    assert vera.get("projects/demo/instances/nobody/metrics").status_code == 404
