"""Idempotency, dry run, If-Match: what surrounds every change."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from cloud import transactions
from cloud.api.models import IdempotencyKey
from cloud.api.tasks import tidy
from cloud.events.models import Event
from cloud.tenancy.models import Token
from compute.models import Flavor, KeyPair
from tests import factories

KEYPAIRS = "projects/demo/keypairs"
SMALL = {"name": "small", "vcpus": 1, "memory_mib": 512, "disk_gib": 5}


def key(text: str = "one") -> dict[str, str]:
    return {"HTTP_IDEMPOTENCY_KEY": text}


def test_the_same_key_and_request_get_the_same_answer_and_one_object(api, cloud_admin):
    admin = api.as_(cloud_admin)
    first = admin.post("flavors", SMALL, **key())
    again = admin.post("flavors", SMALL, **key())
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert (again["Location"], again["ETag"]) == (first["Location"], first["ETag"])
    assert again["Idempotent-Replay"] == "true"
    assert "Idempotent-Replay" not in first
    assert Flavor.objects.count() == Event.objects.count() == 1


def test_a_replay_needs_nothing_of_what_the_first_one_found(api, cloud_admin):
    admin = api.as_(cloud_admin)
    first = admin.post("flavors", SMALL, **key())
    assert admin.delete("flavors/small", **key("two")).status_code == 204
    assert admin.post("flavors", SMALL, **key()).json() == first.json()
    again = admin.delete("flavors/small", **key("two"))
    assert (again.status_code, again["Idempotent-Replay"]) == (204, "true")


def test_the_order_of_members_makes_no_other_request(api, cloud_admin):
    admin = api.as_(cloud_admin)
    admin.post("flavors", SMALL, **key())
    assert admin.post("flavors", dict(reversed(SMALL.items())), **key()).status_code == 201


@pytest.mark.parametrize("change", ["body", "query", "path", "method"])
def test_the_same_key_for_another_request_is_409(api, cloud_admin, change):
    admin = api.as_(cloud_admin)
    admin.post("flavors", SMALL, **key())
    answer = {
        "body": lambda: admin.post("flavors", {**SMALL, "vcpus": 2}, **key()),
        "query": lambda: admin.post("flavors?dry_run=false", SMALL, **key()),
        "path": lambda: admin.post("projects", {"name": "small"}, **key()),
        "method": lambda: admin.delete("flavors/small", **key()),
    }[change]()
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_mismatch")


def test_the_same_key_of_another_token_is_another_key(api, cloud_admin):
    api.as_(cloud_admin).post("flavors", SMALL, **key())
    assert api.as_(cloud_admin).post("flavors", {**SMALL, "name": "large"}, **key()).status_code == 201


def test_a_refusal_is_not_kept(api, cloud_admin):
    admin = api.as_(cloud_admin)
    assert admin.post("flavors", {**SMALL, "vcpus": 0}, **key()).status_code == 400
    assert admin.post("flavors", SMALL, **key()).status_code == 201


def test_a_key_is_forgotten_after_a_day(api, cloud_admin):
    admin = api.as_(cloud_admin)
    admin.post("flavors", SMALL, **key())
    IdempotencyKey.objects.update(created_at=Now() - timedelta(hours=25))
    assert admin.post("flavors", {**SMALL, "name": "large"}, **key()).status_code == 201
    IdempotencyKey.objects.update(created_at=Now() - timedelta(hours=25))
    tidy()
    assert not IdempotencyKey.objects.exists()


@pytest.mark.parametrize("header", ["", "x" * 65, "ü", "a\tb"])
def test_a_key_is_1_to_64_printable_ascii(api, cloud_admin, header):
    assert api.as_(cloud_admin).post("flavors", SMALL, **key(header)).status_code == 400
    assert not Flavor.objects.exists()


def test_a_secret_is_shown_once_and_kept_nowhere(api, member):
    mia = api.as_(member)
    secret = mia.post(KEYPAIRS, {"name": "laptop"}, **key()).json()["secret"]
    replay = mia.post(KEYPAIRS, {"name": "laptop"}, **key())
    assert replay.json()["secret"] is None
    assert secret not in str(IdempotencyKey.objects.values())


@pytest.mark.django_db(transaction=True)
def test_twenty_at_once_with_one_key_make_one_object_and_get_one_answer(api, cloud_admin):
    secret = factories.token(cloud_admin)
    answers = at_once(20, lambda: api.as_(secret).post("flavors", SMALL, **key()))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotent-Replay" in answer for answer in answers) == 19
    assert Flavor.objects.count() == Event.objects.count() == 1


def at_once(number, work):
    """What so many threads get that begin at the same moment."""
    barrier, results = threading.Barrier(number), []

    def run():
        barrier.wait()
        try:
            results.append(work())
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.django_db(transaction=True)
def test_a_quota_with_one_place_left_is_given_once(api, member, project):
    project.quota.limits["keypairs"] = 3
    project.quota.save()
    secret = factories.token(member)
    numbers = iter(range(100))
    answers = at_once(12, lambda: api.as_(secret).post(KEYPAIRS, {"name": f"key{next(numbers)}"}))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [403] * 9
    assert KeyPair.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_a_transaction_that_lost_a_deadlock_is_run_again():
    first, second = factories.flavor("first"), factories.flavor("second")
    both_hold_one = threading.Barrier(2)
    tries: list[str] = []

    def lock(one, other):
        def work():
            tries.append(one.name)
            Flavor.objects.select_for_update().get(pk=one.pk)
            if tries.count(one.name) == 1:
                both_hold_one.wait(30)
            Flavor.objects.filter(pk=other.pk).update(vcpus=7)

        try:
            transactions.run(work)
        finally:
            connection.close()

    threads = [threading.Thread(target=lock, args=pair) for pair in ((first, second), (second, first))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tries) == 3
    assert set(Flavor.objects.values_list("vcpus", flat=True)) == {7}


def test_a_dry_run_answers_as_the_call_would_and_keeps_nothing(api, cloud_admin):
    admin = api.as_(cloud_admin)
    dry = admin.post("flavors?dry_run=true", SMALL, **key())
    assert (dry.status_code, dry.json()["name"]) == (201, "small")
    assert [made["type"] for made in dry.json()["plan"]["created"]] == ["flavor"]
    assert not Flavor.objects.exists()
    assert not Event.objects.exists()
    assert not IdempotencyKey.objects.exists()
    assert admin.post("flavors", SMALL, **key()).status_code == 201


def test_a_dry_run_refuses_what_the_call_would_refuse(api, cloud_admin, member):
    admin = api.as_(cloud_admin)
    admin.post("flavors", SMALL)
    assert admin.post("flavors?dry_run=true", SMALL).status_code == 409
    assert admin.post("flavors?dry_run=true", {}).status_code == 400
    assert api.as_(member).post("flavors?dry_run=true", SMALL).status_code == 403


def test_a_dry_change_and_a_dry_delete_show_what_would_be(api, cloud_admin):
    admin = api.as_(cloud_admin)
    admin.post("flavors", SMALL)
    changed = admin.patch("flavors/small?dry_run=true", {"vcpus": 4}).json()["plan"]["changed"][0]
    assert (changed["before"], changed["after"]) == ({"vcpus": 1}, {"vcpus": 4})
    deleted = admin.delete("flavors/small?dry_run=true")
    assert (deleted.status_code, deleted.json()["plan"]["deleted"][0]["name"]) == (200, "small")
    assert Flavor.objects.get().vcpus == 1


@pytest.mark.django_db(transaction=True)
def test_a_dry_run_waits_a_second_at_most_for_a_lock(api, cloud_admin):
    admin = api.as_(cloud_admin)
    flavor = factories.flavor("small")
    held, done = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            Flavor.objects.select_for_update().get(pk=flavor.pk)
            held.set()
            done.wait(10)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    answer = admin.patch("flavors/small?dry_run=true", {"vcpus": 4})
    done.set()
    holder.join()
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)


def test_if_match_lets_only_who_has_seen_the_present_state_change_it(api, cloud_admin):
    admin = api.as_(cloud_admin)
    made = admin.post("flavors", SMALL)
    seen = admin.get("flavors/small")["ETag"]
    assert made["ETag"] == seen
    changed = admin.patch("flavors/small", {"vcpus": 2}, HTTP_IF_MATCH=seen)
    assert changed.status_code == 200
    stale = admin.patch("flavors/small", {"vcpus": 3}, HTTP_IF_MATCH=seen)
    assert (stale.status_code, stale.json()["code"]) == (412, "stale")
    assert admin.delete("flavors/small", HTTP_IF_MATCH=seen).status_code == 412
    assert admin.patch("flavors/small", {"vcpus": 3}, HTTP_IF_MATCH="*").status_code == 200
    present = admin.get("flavors/small")["ETag"]
    assert admin.delete("flavors/small", HTTP_IF_MATCH=f'"x", {present}').status_code == 204


@pytest.mark.django_db(transaction=True)
def test_of_ten_changes_with_the_same_etag_one_wins(api, cloud_admin):
    secret = factories.token(cloud_admin)
    factories.flavor("small")
    seen = api.as_(secret).get("flavors/small")["ETag"]
    numbers = iter(range(2, 100))
    answers = at_once(10, lambda: api.as_(secret).patch("flavors/small", {"vcpus": next(numbers)}, HTTP_IF_MATCH=seen))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 9


def test_a_reader_who_has_it_already_gets_304(api, viewer):
    factories.flavor("small")
    vera = api.as_(viewer)
    tag = vera.get("flavors/small")["ETag"]
    answer = vera.get("flavors/small", HTTP_IF_NONE_MATCH=tag)
    assert (answer.status_code, answer.content) == (304, b"")


def test_location_leads_to_the_new_object(api, cloud_admin):
    admin = api.as_(cloud_admin)
    made = admin.post("flavors", SMALL)
    assert admin.get(made["Location"]).json() == made.json()


def test_unknown_parameters_of_a_change_are_refused(api, cloud_admin):
    answer = api.as_(cloud_admin).post("flavors?dryrun=true", SMALL)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "?dryrun")
    assert api.as_(cloud_admin).post("flavors?dry_run=perhaps", SMALL).status_code == 400
    assert not Flavor.objects.exists()


def test_a_mutation_writes_exactly_one_event_with_its_request_id(api, cloud_admin):
    answer = api.as_(cloud_admin).post("flavors", SMALL)
    event = Event.objects.get()
    assert (event.request_id, event.actor, event.actor_id) == (answer["X-Request-ID"], "root", cloud_admin.pk)
    assert event.after["name"] == "small"


def test_tidy_forgets_tokens_long_after_their_end(member):
    factories.token(member, expires_at=Now() - timedelta(days=31))
    factories.token(member, expires_at=Now() - timedelta(days=29))
    tidy()
    assert Token.objects.count() == 1
