"""What instances cost: by the hour in which they hold a place, at the price of their launch."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from cloud.costs import sums
from cloud.costs.models import Rental
from cloud.hosts.models import Allocation
from cloud.tenancy.models import Role
from compute import services
from compute.models import Flavor, Instance
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)

ABOUT = Decimal("0.01")


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def api_of(api, cloud):
    return api.as_(factories.member(cloud.project, Role.VIEWER, "vera"))


@pytest.fixture
def begun():
    """When this month has begun."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'")
        return cursor.fetchone()[0]


def launch(cloud, name, since):
    Flavor.objects.update(price_per_hour="0.5")
    cloud.flavor.refresh_from_db()
    instance = cloud.launch(name=name)
    cloud.settle()
    Allocation.of("instance", instance.pk).update(created_at=since)
    return instance


def now():
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        return cursor.fetchone()[0]


def test_it_costs_the_price_of_its_launch_running_or_stopped(cloud, begun):
    instance = launch(cloud, "web", begun - timedelta(days=40))
    Flavor.objects.update(price_per_hour="9")
    hours = Decimal((now() - begun).total_seconds()) / 3600
    found = sums.of(cloud.project)
    assert abs(found.so_far - hours / 2) < ABOUT
    assert found.per_hour == Decimal("0.5")
    month = Decimal((sums.following(begun) - begun).total_seconds()) / 3600
    assert abs(found.at_month_end - month / 2) < ABOUT
    cloud.do(services.stop, instance)
    cloud.settle()
    assert sums.of(cloud.project).per_hour == Decimal("0.5")


def test_what_is_deleted_costs_what_it_did_and_no_more(cloud, begun):
    instance = launch(cloud, "web", now() - timedelta(hours=10))
    cloud.do(services.delete, instance)
    cloud.settle()
    assert not Instance.objects.exists()
    rental = Rental.objects.get()
    assert (rental.name, rental.size) == ("web", cloud.flavor.name)
    Rental.objects.update(began_at=begun + timedelta(hours=1), ended_at=begun + timedelta(hours=3))
    found = sums.of(cloud.project, items=10)
    assert (found.so_far, found.at_month_end, found.per_hour, found.count) == (1, 1, 0, 1)
    assert [(item["name"], item["hours"], item["lives"]) for item in found.items] == [("web", 2, False)]


def test_a_month_gets_its_own_part(cloud, begun):
    instance = launch(cloud, "web", begun)
    cloud.do(services.delete, instance)
    cloud.settle()
    january = datetime(2026, 1, 1, tzinfo=UTC)
    Rental.objects.update(began_at=january + timedelta(days=30), ended_at=january + timedelta(days=33))
    hours = [sums.of(cloud.project, month=sums.following(january) if later else january).so_far * 2 for later in (0, 1)]
    assert hours == [24, 48]


def test_a_launch_that_failed_costs_nothing(cloud):
    launch(cloud, "web", Now())
    assert not Rental.objects.exists()
    cloud.node.hypervisor.broken = "no"
    instance = cloud.launch(name="broken")
    cloud.settle()
    assert Instance.objects.get(pk=instance.pk).failed_at
    assert sums.of(cloud.project, resource="broken").count == 0


def test_the_api_shows_the_month_and_the_dearest(cloud, api_of, begun):
    launch(cloud, "web", now() - timedelta(hours=2))
    launch(cloud, "db", now() - timedelta(hours=1))
    path = f"projects/{cloud.project.name}/cost"
    shown = api_of.get(path).json()
    assert (shown["month"], shown["per_hour"], shown["count"]) == (f"{begun:%Y-%m}", "1.0000", 2)
    assert shown["so_far"][:3] in ("1.5", "1.4")
    assert [item["name"] for item in shown["items"]] == ["web", "db"]
    assert api_of.get(f"{path}?instance=db").json()["count"] == 1
    assert api_of.get(f"{path}?month=2020-01").json()["so_far"] == "0.0000"
    assert api_of.get(f"{path}?month=2099-01").json()["so_far"] == "0.0000"
    assert api_of.get(f"{path}?month=soon").status_code == 400


def test_many_instances_cost_as_many_queries_as_one(cloud):
    launch(cloud, "web", Now())
    with CaptureQueriesContext(connection) as few:
        sums.of(cloud.project, items=10)
    launch(cloud, "db", Now())
    with CaptureQueriesContext(connection) as many:
        sums.of(cloud.project, items=10)
    assert len(few) == len(many) == 2
