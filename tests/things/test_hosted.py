"""The protocol between hosts and the control plane, over a kind of resource that it knows nothing about."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from cloud.api import limits
from cloud.events.models import Event
from cloud.hosts import reports, resources
from cloud.hosts.agent_api.serializers import MAX_REPORTS
from cloud.hosts.models import Allocation, Host, HostPulse, Order
from cloud.hosts.reconcile import reconcile
from cloud.hosts.resources import kind_of
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.operations.troubles import troubles
from tests.things import hosted
from tests.things.models import Thing
from tests.things.node import ThingNode
from tests.things.scenarios import make, ready, remove, some_host

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def node(cloud):
    return some_host(cloud)


@pytest.fixture
def thing(cloud, node):
    return Thing.objects.get(pk=ready(cloud).pk)


def test_the_migrations_of_things_are_complete():
    call_command("makemigrations", "things", "--check", "--dry-run")


def test_an_order_carries_the_spec_and_its_report_ends_the_operation(cloud, node):
    hosted.noticed.clear()
    made = make(cloud)
    cloud.settle()
    made.refresh_from_db()
    assert (made.seen, made.host) == ("ready", node.host)
    assert node.specs[str(made.pk)]["name"] == made.name
    assert not Order.objects.filter(answered_at=None).exists()
    assert hosted.noticed == [("unknown", "ready")]
    seen = Event.objects.get(action="things.thing.seen")
    assert (seen.before, seen.after) == ({"seen": "unknown"}, {"seen": "ready", "problem": ""})
    assert cloud.breaches() == []


def test_what_the_host_cannot_make_fails_with_the_hosts_words(cloud, node):
    node.broken = "no such luck"
    made = make(cloud)
    cloud.settle()
    assert Operation.objects.get(subject_id=made.pk).reason == "no such luck"
    assert (Thing.objects.get().seen, Allocation.of("thing", made.pk).count()) == ("gone", 0)


def type_error():
    raise TypeError("unhashable type: 'dict'")


def database_error():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 / 0")


@pytest.mark.parametrize(
    ("fail", "words"), [(type_error, "TypeError: unhashable type: 'dict'"), (database_error, "division by zero")]
)
def test_an_order_whose_spec_fails_holds_up_no_other(cloud, node, monkeypatch, fail, words):
    bad, good = make(cloud), make(cloud)
    kind = kind_of("thing")

    def spec(thing, verb):
        return fail() if thing.pk == bad.pk else kind.spec(thing, verb)

    monkeypatch.setitem(resources._kinds, "thing", replace(kind, spec=spec))
    engine.sweep()
    node.look()
    assert Thing.objects.get(pk=good.pk).seen == "ready"
    assert str(bad.pk) not in node.specs
    assert Order.objects.get(answered_at=None).attempt == 1, "its lease has not run out"
    [told] = [trouble for trouble in troubles() if trouble.title == "Orders that cannot be given to their hosts"]
    assert (told.count, told.cases[0].name) == (1, node.host.name)
    assert f"thing {bad.pk}" in told.cases[0].words
    assert words in told.cases[0].words
    monkeypatch.setitem(resources._kinds, "thing", kind)
    Order.objects.filter(answered_at=None).update(lease_until=Now() - timedelta(seconds=1))
    cloud.settle()
    assert Thing.objects.get(pk=bad.pk).seen == "ready"
    assert troubles() == []


@pytest.mark.parametrize(("broken", "told"), [("", []), ("no such luck", ["no such luck"])])
def test_of_what_is_work_only_what_goes_wrong_is_an_event_of_its_own(cloud, node, monkeypatch, broken, told):
    monkeypatch.setitem(resources._kinds, "thing", replace(kind_of("thing"), is_work=True))
    node.broken = broken
    make(cloud)
    cloud.settle()
    seen = Event.objects.filter(action="things.thing.seen")
    assert [event.after["problem"] for event in seen] == told


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"resource": {"type": "dragon", "id": "00000000-0000-0000-0000-000000000001"}}, "/resource/type"),
        ({"seen": "running"}, "/seen"),
        ({"facts": {"problem": ["no such luck"]}}, "/facts/problem"),
        ({"facts": {"refused": "no"}}, "/facts/refused"),
        ({"facts": {"refused": {"ledger_generation": "many"}}}, "/facts/refused/ledger_generation"),
    ],
)
def test_a_report_that_is_not_understood_is_refused_with_the_place(node, thing, change, pointer):
    report = {"resource": {"type": "thing", "id": str(thing.pk)}, **node.ledger[str(thing.pk)], "sequence": 99}
    refused = node.post("report", **report | change)
    assert (refused["status"], refused["code"]) == (400, "invalid")
    assert [fault["pointer"] for fault in refused["errors"]] == [pointer]
    thing.refresh_from_db()
    assert thing.seen == "ready"


@pytest.mark.parametrize("seen", ["unknown", "broken", "gone"])
def test_what_may_be_seen_of_every_kind_may_be_seen_of_a_thing(node, thing, seen):
    assert node.see(str(thing.pk), seen)["status"] == 200
    thing.refresh_from_db()
    assert thing.seen == seen


def test_a_report_that_is_old_or_of_another_generation_is_outdated(node, thing):
    ident = str(thing.pk)
    assert node.report(ident)["status"] == 409, "the same once more"
    assert node.see(ident, "broken", generation=7)["status"] == 409
    thing.refresh_from_db()
    assert (thing.seen, thing.seen_sequence) == ("ready", 1)


def test_a_host_reports_on_its_own_rows_only(node, thing):
    other = ThingNode("other")
    other.ledger[str(thing.pk)] = {"generation": 1, "sequence": 9, "seen": "gone"}
    assert other.report(str(thing.pk)) == {"status": 409, "generation": 1}
    thing.refresh_from_db()
    assert thing.seen == "ready"


def test_several_reports_in_one_call_have_the_answers_that_each_would_have_had(node, thing, monkeypatch):
    known, resource = node.ledger[str(thing.pk)], {"type": "thing", "id": str(thing.pk)}
    monkeypatch.setattr(reports, "receive", stumble_at(7, reports.receive))
    told = [
        {"resource": resource, **known, "sequence": 2, "seen": "nonsense"},
        {"resource": resource, **known, "sequence": 7},
        {"resource": resource, **known, "sequence": 8, "seen": "broken"},
        {"resource": resource, **known, "sequence": 3},
    ]
    answered = node.post("reports", reports=told)
    assert answered["status"] == 200
    answers = answered["answers"]
    assert [each["status"] for each in answers] == [400, 500, 200, 409]
    assert [fault["pointer"] for fault in answers[0]["body"]["errors"]] == ["/seen"]
    assert answers[1]["body"]["code"] == "internal"
    assert [each["body"] for each in answers[2:]] == [{}, {"generation": 1}]
    thing.refresh_from_db()
    assert (thing.seen, thing.seen_sequence) == ("broken", 8)


def stumble_at(sequence, receive):
    def receive_or_stumble(report):
        if report.sequence == sequence:
            raise RuntimeError("a mistake in here")
        return receive(report)

    return receive_or_stumble


@pytest.mark.parametrize("told", [[], ["x"], {}, [{}] * (MAX_REPORTS + 1)])
def test_reports_that_are_no_list_of_reports_are_refused(node, told):
    assert node.post("reports", reports=told)["status"] == 400


def test_each_report_of_a_call_counts_against_the_rate(node, monkeypatch):
    taken = []
    monkeypatch.setattr(limits, "_take", lambda key, cost, holds: (taken.append((cost, holds)), (True, 0.0))[1])
    node.post("reports", reports=[{}] * 5)
    assert taken == [(1 / 200, 10), (4 / 200, 10)]


def test_a_ledger_that_is_ahead_is_overtaken(cloud, node, thing):
    node.ledger[str(thing.pk)]["generation"] = 40
    remove(cloud, thing)
    cloud.settle()
    assert node.ledger[str(thing.pk)] == {"generation": 41, "sequence": 2, "seen": "gone"}
    assert not Thing.objects.exists()


def test_a_ledger_that_cannot_be_believed_quarantines_its_host(node, thing):
    assert node.report(str(thing.pk), refused={"ledger_generation": 10**9})["status"] == 409
    assert f"generation {10**9} of the thing {thing.pk}" in Host.objects.get(pk=node.host.pk).quarantined


def test_what_no_row_owns_is_named_and_removed_only_by_repair(cloud, node, thing):
    node.ledger["00000000-0000-0000-0000-000000000009"] = {"generation": 3, "sequence": 1, "seen": "ready"}
    stray = {"type": "thing", "id": "00000000-0000-0000-0000-000000000009"}
    assert node.heartbeat()["unowned"] == [stray]
    (breach,) = cloud.breaches()
    assert breach.words == "things holds a thing (ready) that belongs to no thing"
    breach.repair()
    node.look()
    assert node.ledger[stray["id"]] == {"generation": 4, "sequence": 2, "seen": "gone"}
    assert node.heartbeat()["unowned"] == []
    assert cloud.breaches() == []


def test_what_vanishes_from_its_host_is_made_again(cloud, node, thing):
    HostPulse.objects.update(inventory=[], seen_at=Now() + timedelta(seconds=21))
    reconcile()
    thing.refresh_from_db()
    assert (thing.seen, thing.seen_problem) == ("gone", "Its host no longer has it.")
    cloud.settle()
    thing.refresh_from_db()
    assert (thing.seen, thing.generation) == ("ready", 2)


def test_a_tombstone_keeps_the_room_until_the_host_confirms(cloud, node, thing):
    free = F("free_disk_gib")
    remove(cloud, thing)
    engine.advance(Operation.objects.get(finished_at=None).pk)
    Operation.objects.all().delete()
    Thing.objects.all().delete()
    before = Host.objects.values_list(free, flat=True).get(pk=node.host.pk)
    assert cloud.breaches() == [], "the order is its tombstone"
    assert node.heartbeat()["unowned"] == []
    node.look()
    assert node.specs[str(thing.pk)] == {"id": str(thing.pk)}
    assert Host.objects.values_list(free, flat=True).get(pk=node.host.pk) == before + 2
    assert not Order.objects.filter(answered_at=None).exists()
    assert cloud.breaches() == []


def test_room_that_nobody_owns_is_told_of(cloud, node, thing):
    Allocation.objects.create(resource_type="thing", resource_id=thing.needs_id or node.host.pk, host=node.host)
    (breach,) = cloud.breaches()
    assert breach.words == "things has capacity allocated to a thing that belongs to no thing"
    breach.repair()
    assert cloud.breaches() == []


def test_a_thing_waits_for_the_one_that_it_needs_and_is_woken_by_its_report(cloud, node):
    """By no clock: each would look again after an hour."""
    needed = make(cloud)
    needing = make(cloud, needs=needed)
    works = {each.subject_id: each.pk for each in Operation.objects.all()}
    engine.advance(works[needing.pk])
    assert Operation.objects.get(pk=works[needing.pk]).reason == f"waiting for {needed}"
    for _ in range(3):
        engine.sweep()
        node.look()
    engine.sweep()
    assert set(Operation.objects.values_list("outcome", flat=True)) == {"done"}
    assert list(node.specs) == [str(needed.pk), str(needing.pk)]


def test_open_pages_are_told_of_all_things_on_a_host(node, thing):
    with connection.cursor() as cursor:
        cursor.execute("LISTEN hints")
    with transaction.atomic():
        kind_of("thing").hint(node.host)
    payloads = [notice.payload for notice in connection.connection.notifies(timeout=0.2)]
    with connection.cursor() as cursor:
        cursor.execute("UNLISTEN hints")
    told = {"project": str(thing.project_id), "type": "thing", "id": str(thing.pk)}
    assert [json.loads(payload) for payload in payloads] == [told]


def test_things_and_machines_draw_from_one_sum(cloud, node, thing):
    host = Host.objects.get(pk=node.host.pk)
    assert host.free_disk_gib == host.disk_gib - 2
    Allocation.objects.create(resource_type="instance", resource_id=thing.pk, host=host, disk_gib=host.free_disk_gib)
    host.refresh_from_db()
    assert host.free_disk_gib == 0
