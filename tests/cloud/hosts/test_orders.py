"""Orders out: at most one live, leased once, taken over by the next run of a worker, renewed only while wanted."""

import threading
import uuid
from datetime import timedelta

import pytest
from django.db import connections
from django.db.models.functions import Now

from cloud.hosts import orders
from cloud.hosts.models import Order
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def host():
    return factories.host("node")


@pytest.fixture(autouse=True)
def rung(monkeypatch):
    calls = []
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: calls.append(args))
    return calls


def post(host, resource_id, verb="ensure_running", generation=1):
    orders.post(host, "instance", resource_id, verb, generation)


def test_posting_again_changes_nothing_that_is_under_way(host):
    machine = uuid.uuid4()
    post(host, machine)
    (claimed,) = orders.claim(host, 4)
    post(host, machine)
    order = Order.objects.get()
    assert (order.pk, order.attempt) == (claimed.order.pk, 1)
    assert orders.claim(host, 4) == []


def test_what_others_wait_for_is_claimed_before_them(host):
    for kind in ("instance", "network", "instance"):
        orders.post(host, kind, uuid.uuid4(), "ensure_gone", 1)
    assert [one.order.resource_type for one in orders.claim(host, 2)] == ["network", "instance"]


def test_a_new_wish_replaces_the_order_and_is_claimable_at_once(host):
    machine = uuid.uuid4()
    post(host, machine)
    orders.claim(host, 4)
    post(host, machine, "ensure_gone", 2)
    (claimed,) = orders.claim(host, 4)
    assert (claimed.order.verb, claimed.order.generation, claimed.order.attempt) == ("ensure_gone", 2, 1)
    assert Order.objects.count() == 1


def test_a_renewal_of_an_older_generation_learns_the_present_one(host):
    machine = uuid.uuid4()
    post(host, machine)
    (claimed,) = orders.claim(host, 4)
    assert orders.renew(host, claimed.order.pk, 1) is None
    post(host, machine, "ensure_stopped", 2)
    assert orders.renew(host, claimed.order.pk, 1) == 2
    assert orders.renew(host, uuid.uuid4(), 1) == 0


def test_a_new_run_of_the_worker_takes_over_at_once_and_an_old_lease_runs_out(host):
    post(host, uuid.uuid4())
    assert len(orders.claim(host, 4, "first")) == 1
    assert orders.claim(host, 4, "first") == []
    assert len(orders.claim(host, 4, "second")) == 1
    Order.objects.update(lease_until=Now() - timedelta(seconds=1))
    (claimed,) = orders.claim(host, 4, "second")
    assert claimed.order.attempt == 3


def test_an_answer_ends_the_claimed_order_of_its_generation_and_no_newer_one(host):
    machine = uuid.uuid4()
    post(host, machine, generation=2)
    orders.answer(host, "instance", machine, 2)
    assert Order.objects.filter(answered_at=None).exists(), "nobody had claimed it"
    orders.claim(host, 4)
    orders.answer(host, "instance", machine, 1)
    assert Order.objects.filter(answered_at=None).exists()
    orders.answer(host, "instance", machine, 2)
    assert not Order.objects.filter(answered_at=None).exists()


def test_a_host_sees_only_its_own_orders(host):
    other = factories.host("other")
    post(host, uuid.uuid4())
    assert orders.claim(other, 4) == []
    (claimed,) = orders.claim(host, 4)
    assert orders.renew(other, claimed.order.pk, 1) == 0


@pytest.mark.django_db(transaction=True)
def test_parallel_claims_lease_every_order_once(host):
    for _ in range(20):
        post(host, uuid.uuid4())
    claimed, errors = [], []

    def work():
        try:
            claimed.extend(item.order.pk for item in orders.claim(host, 5))
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    claimed += [item.order.pk for item in orders.claim(host, 20)]
    assert errors == []
    assert len(claimed) == len(set(claimed)) == 20


def test_posting_rings_only_once_it_is_committed(host, rung, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        post(host, uuid.uuid4())
        assert rung == []
    assert rung == [(f"host.{host.pk}", "host.look")]
