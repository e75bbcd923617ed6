"""Nothing grows without a bound: every model is counted by a quota, forgotten by the clock, or bounded otherwise."""

from datetime import timedelta

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.db.models.functions import Now

from cloud import retention
from cloud.api.models import IdempotencyKey
from cloud.api.tasks import tidy
from cloud.embedded.paths import TREE
from cloud.events.models import Event
from cloud.events.services import MAX_FACTS, SYSTEM, record
from cloud.hosts.models import JoinToken, Order
from cloud.operations.models import Operation
from cloud.problems import Problem
from cloud.tenancy import accounts
from cloud.tenancy.models import BrowserSession, Token
from compute.models import ConsoleTicket, Instance
from compute.services import launching
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)

QUOTA, CLOCK, ADMINS, FIXED, WITH_ANOTHER = "quota", "clock", "made by admins", "a fixed number", "with another row"
BOUNDED = {
    "tenancy.User": ADMINS, "tenancy.Project": ADMINS, "tenancy.Quota": WITH_ANOTHER,
    "tenancy.Membership": WITH_ANOTHER,
    "tenancy.QuotaRequest": "one open at a time in a project", "tenancy.Token": CLOCK,
    "tenancy.SavedView": "30 of a user in a project", "tenancy.BrowserSession": CLOCK, "sessions.Session": CLOCK,
    "hosts.Host": ADMINS, "hosts.HostPulse": WITH_ANOTHER, "hosts.Allocation": WITH_ANOTHER, "hosts.JoinToken": CLOCK,
    "hosts.Order": CLOCK, "hosts.HostLoad": CLOCK,
    "operations.Operation": CLOCK, "operations.Check": FIXED, "operations.FailingTask": FIXED,
    "events.Event": CLOCK, "events.Place": FIXED, "api.IdempotencyKey": CLOCK,
    "compute.Instance": QUOTA, "compute.Machine": WITH_ANOTHER, "compute.ConsoleLog": WITH_ANOTHER,
    "compute.ConsoleTicket": CLOCK, "compute.Flavor": ADMINS, "compute.KeyPair": QUOTA,
    "costs.Budget": WITH_ANOTHER, "costs.Rental": "kept for ever: what was to be paid",
    "compute.Sample": "compute.pack_samples", "compute.SampleHour": "compute.pack_samples",
    "compute.SampleDay": "compute.pack_samples", "compute.DeviceSample": "compute.pack_samples",
    "compute.DeviceHour": "compute.pack_samples", "compute.DeviceDay": "compute.pack_samples",
    "storage.Image": QUOTA, "storage.ImageShare": WITH_ANOTHER, "storage.Volume": QUOTA, "storage.Snapshot": QUOTA,
    "storage.VolumeType": ADMINS,
    "storage.ImageExport": "its size counts in a quota; expires",
    "storage.Backup": QUOTA, "storage.BackupPart": WITH_ANOTHER, "storage.BackupSpace": WITH_ANOTHER,
    "storage.BackupBlock": "its size counts in a quota", "storage.BackupPolicy": WITH_ANOTHER,
    "storage.CachedFile": "what hosts have room for; what they never got: storage.tidy",
    "storage.Upload": "one of an image; expires",
    "storage.ImageImport": WITH_ANOTHER, "storage.VolumeOnHost": WITH_ANOTHER,
    "storage.Transfer": "one of what moves; it goes with its end", "storage.TransferOnHost": WITH_ANOTHER,
    "storage.Layer": WITH_ANOTHER, "storage.Attachment": WITH_ANOTHER,
    "network.Network": QUOTA, "network.Subnet": QUOTA, "network.Port": QUOTA, "network.Router": QUOTA,
    "network.FloatingIP": QUOTA, "network.PortForward": QUOTA, "network.SecurityGroup": QUOTA,
    "network.SecurityGroupRule": QUOTA, "network.AddressPool": ADMINS, "network.Address": WITH_ANOTHER,
    "network.PortSecurityGroup": WITH_ANOTHER, "network.NetworkOnHost": WITH_ANOTHER,
    "network.RouterOnHost": WITH_ANOTHER,
}  # fmt: skip
OF_OTHERS = {"auth", "contenttypes", "account", "mfa", "socialaccount", "things"}  # apps whose rows go with a user


def models() -> set[str]:
    return {model._meta.label for model in apps.get_models() if model._meta.app_label not in OF_OTHERS}


def test_every_model_is_bounded_somehow():
    assert models() == BOUNDED.keys()


def test_what_is_forgotten_by_the_clock_has_a_rule_and_is_in_the_manual():
    ruled = {model._meta.label for rule in retention.rules() for model in rule.models}
    assert {label for label, how in BOUNDED.items() if how == CLOCK} | {"compute.Instance"} == ruled
    manual = (TREE / "docs/operating.md").read_text().partition("## What is kept how long")[2].partition("\n## ")[0]
    assert {rule.what for rule in retention.rules() if f"| {rule.what} |" not in manual} == set()


def age(model, field: str, days: float, **which) -> None:
    """Make rows as if they were so old, also those that nobody can change."""
    table = model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        cursor.execute(f"UPDATE {table} SET {field} = now() - make_interval(secs => %s)", [days * 86400])
        cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def test_events_are_kept_as_long_as_it_says_and_no_longer(project):
    def happen():
        with transaction.atomic():
            record("compute.instance.stop", project, actor=SYSTEM)

    happen()
    age(Event, "at", settings.KEEP_EVENTS_DAYS + 1)
    happen()
    tidy()
    assert Event.objects.count() == 1
    age(Event, "at", settings.KEEP_EVENTS_DAYS - 1)
    tidy()
    assert Event.objects.count() == 1
    with pytest.raises(Exception, match="Cannot update or delete"):
        Event.objects.all().delete()


def test_nobody_forgets_events_of_the_last_month():
    with pytest.raises(Exception, match="kept for 30 days at least"), connection.cursor() as cursor:
        cursor.execute("SELECT events_forget(1, 10)")


def test_a_project_has_only_so_many_events_and_always_those_of_the_last_month(project, settings):
    settings.KEEP_EVENTS_OF_PROJECT = 3
    with transaction.atomic():
        others = factories.project()
        for name in "abcdef":
            record("compute.instance.update", project, actor=SYSTEM, project_id=project.pk, after={"name": name})
        for _ in range(3):
            record("compute.instance.update", others, actor=SYSTEM, project_id=others.pk)
            record("tenancy.user.sign_in", factories.user(), actor=SYSTEM)
    of_project = Event.objects.filter(project_id=project.pk).order_by("id")
    tidy()
    assert of_project.count() == 6
    age(Event, "at", 31)
    tidy()
    assert [event.after["name"] for event in of_project] == ["d", "e", "f"]
    assert Event.objects.exclude(project_id=project.pk).count() == 6


def test_an_event_has_no_room_for_much(project):
    long = {"labels": {"a": "x" * 20_000}, "name": "web"}
    with transaction.atomic():
        event = record("compute.instance.update", project, actor=SYSTEM, before=long, after=long)
    event.refresh_from_db()
    assert event.before == {"labels": "(20009 characters, too long for the log)", "name": "web"}
    assert len(str(event.after)) < MAX_FACTS


def test_finished_operations_orders_and_tickets_go_in_time(cloud):
    made = cloud.launch()
    cloud.settle()
    factories.token(factories.user())
    ConsoleTicket.objects.create(
        digest="x", instance=made, generation=1, kind="vnc", holder="y", expires_at=Now() - timedelta(minutes=1)
    )
    tidy()
    assert (Operation.objects.count(), Order.objects.count(), JoinToken.objects.count()) == (1, 1, 1)
    assert ConsoleTicket.objects.count() == 0
    age(Operation, "finished_at", settings.KEEP_OPERATIONS_DAYS + 1)
    age(Order, "answered_at", 61)
    age(JoinToken, "expires_at", 31)
    tidy()
    assert (Operation.objects.count(), Order.objects.count(), JoinToken.objects.count()) == (0, 0, 0)
    assert cloud.breaches() == []


def test_failed_launches_go_in_time_and_are_not_more_than_so_many(cloud, monkeypatch):
    cloud.node.hypervisor.broken = "it does not work"
    first, second = cloud.launch(), cloud.launch()
    cloud.settle()
    monkeypatch.setattr(launching, "MAX_FAILED", 2)
    with pytest.raises(Problem, match="Delete some"):
        cloud.launch()
    Instance.objects.filter(pk=first.pk).update(
        failed_at=Now() - timedelta(days=settings.KEEP_FAILED_LAUNCHES_DAYS + 1)
    )
    tidy()
    cloud.settle()
    assert list(Instance.objects.all()) == [second]
    assert Event.objects.get(action="compute.instance.delete").actor == "system"
    assert cloud.launch()


def test_one_caller_has_only_so_many_answers_kept(monkeypatch):
    monkeypatch.setattr("cloud.api.retention.MAX_KEYS", 3)
    for caller in ("user:1", "user:2"):
        for number in range(5):
            IdempotencyKey.objects.create(caller=caller, key=str(number), request="x", status=200)
    tidy()
    kept = set(IdempotencyKey.objects.values_list("caller", "key"))
    assert kept == {(caller, key) for caller in ("user:1", "user:2") for key in "234"}


def test_one_user_has_only_so_many_sessions(client, monkeypatch):
    monkeypatch.setattr("cloud.api.retention.MAX_SESSIONS", 2)
    user = factories.user("vera")
    for _ in range(4):
        client.cookies.clear()
        client.force_login(user)
        client.get("/account/security")
    assert BrowserSession.objects.count() == 4
    tidy()
    assert Session.objects.count() == 2
    assert client.get("/account/security").status_code == 200, "the newest goes on"


def test_one_user_has_only_so_many_tokens(monkeypatch):
    monkeypatch.setattr(accounts, "MAX_TOKENS", 2)
    user = factories.user("vera")
    for number in range(2):
        with transaction.atomic():
            accounts.create_token(user=user, actor=SYSTEM, name=f"t{number}")
    with pytest.raises(Problem, match="Revoke"), transaction.atomic():
        accounts.create_token(user=user, actor=SYSTEM, name="t3")
    Token.objects.update(expires_at=Now() - timedelta(days=31))
    tidy()
    assert Token.objects.count() == 0


def test_what_cannot_be_forgotten_hinders_nothing_else_and_is_told(monkeypatch):
    def fail() -> int:
        raise RuntimeError("no")

    monkeypatch.setattr(retention, "_rules", [retention.Rule("bad", (), fail), *retention.rules()])
    IdempotencyKey.objects.create(caller="user:1", key="1", request="x", status=200)
    IdempotencyKey.objects.update(created_at=Now() - timedelta(days=2))
    with pytest.raises(RuntimeError):
        tidy()
    assert IdempotencyKey.objects.count() == 0
