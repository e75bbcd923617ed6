"""The ledger: durable, and never behind what was done."""

import sqlite3
import threading

import pytest

from agent.entries import Key
from agent.errors import Stale
from agent.ledger import Ledger, look
from tests.hosts import make_spec


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger.sqlite3")


def key(resource_id):
    return Key("instance", resource_id)


def order(spec, generation=1, number="1", verb="ensure_running", type_="instance"):
    resource = {"type": type_, "id": spec["id"]}
    return {"id": number, "resource": resource, "verb": verb, "generation": generation, "spec": spec}


def test_it_is_durable_and_private(ledger, tmp_path):
    assert ledger._connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert ledger._connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert (tmp_path / "ledger.sqlite3").stat().st_mode & 0o777 == 0o600


def test_older_orders_are_refused_and_equal_ones_taken_again(ledger, spec):
    ledger.accept(order(spec, 2), "running")
    ledger.accept(order(spec, 2), "running")
    with pytest.raises(Stale) as refusal:
        ledger.accept(order(spec, 1), "running")
    assert refusal.value.generation == 2
    assert ledger.get(key(spec["id"])).generation == 2


def test_the_spec_of_a_delete_does_not_erase_what_is_known(ledger, spec):
    ledger.accept(order(spec), "running")
    ledger.accept(order({"id": spec["id"]}, 2, verb="ensure_gone"), "gone")
    assert ledger.get(key(spec["id"])).spec["hypervisor"] == "qemu"


def test_what_a_tenant_gave_it_goes_with_the_resource(ledger, spec, tmp_path):
    """Also out of the file, of which a backup may be kept."""
    spec["seed"]["user_data"] = "a secret of this tenant"
    ledger.accept(order(spec), "running")
    ledger.accept(order({"id": spec["id"]}, 2, verb="ensure_gone"), "gone")
    ledger.saw(key(spec["id"]), "gone", {})
    assert ledger.get(key(spec["id"])).spec == {}
    assert ledger.get(key(spec["id"])).generation == 2, "a late order is known to be old"
    ledger.close()
    for file in tmp_path.iterdir():
        assert b"a secret of this tenant" not in file.read_bytes()


def test_tombstones_of_older_versions_are_emptied_too(ledger, spec):
    ledger.accept(order(spec), "gone")
    with ledger.write() as connection:
        connection.execute("UPDATE resource SET seen = 'gone'")
    ledger.forget_tombstones()
    assert ledger.get(key(spec["id"])).spec == {}


def test_only_the_order_that_was_obeyed_is_answered(ledger, spec):
    ledger.accept(order(spec, 1, "1"), "running")
    ledger.accept(order(spec, 2, "2"), "running")
    ledger.saw(key(spec["id"]), "running", {}, answers=order(spec, 1, "1"))
    assert ledger.get(key(spec["id"])).order["id"] == "2"
    ledger.saw(key(spec["id"]), "running", {}, answers=order(spec, 2, "2"))
    assert ledger.get(key(spec["id"])).order is None


def test_a_later_report_is_still_owed_when_an_earlier_one_was_taken(ledger, spec):
    ledger.accept(order(spec), "running")
    first = ledger.saw(key(spec["id"]), "running", {})
    second = ledger.saw(key(spec["id"]), "stopped", {"cause": "crash"})
    ledger.acknowledged(key(spec["id"]), first["sequence"])
    assert [entry.report for entry in ledger.unanswered()] == [second]
    ledger.acknowledged(key(spec["id"]), second["sequence"])
    assert ledger.unanswered() == []


def test_threads_do_not_lose_writes(ledger):
    specs = [make_spec() for _ in range(8)]

    def work(spec):
        for generation in range(1, 20):
            ledger.accept(order(spec, generation), "running")
            ledger.saw(key(spec["id"]), "running", {})

    threads = [threading.Thread(target=work, args=(spec,)) for spec in specs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {ledger.get(key(spec["id"])).generation for spec in specs} == {19}


def test_a_failed_write_leaves_nothing_half_done(ledger, spec):
    ledger.accept(order(spec), "running")

    def fail_halfway():
        with ledger.write() as connection:
            connection.execute("UPDATE resource SET generation = 5")
            connection.execute("UPDATE resource SET generation = NULL")

    with pytest.raises(sqlite3.IntegrityError):
        fail_halfway()
    assert ledger.get(key(spec["id"])).generation == 1


def test_old_tombstones_are_forgotten_others_are_not(ledger, spec):
    other = make_spec()
    for each in (spec, other):
        ledger.accept(order(each), "gone")
        ledger.acknowledged(key(each["id"]), ledger.saw(key(each["id"]), "gone", {})["sequence"])
    ledger._connection.execute(
        "UPDATE resource SET changed_at = datetime('now', '-31 days') WHERE id = ?", (spec["id"],)
    )
    ledger.forget_tombstones()
    assert ledger.get(key(spec["id"])) is None
    assert ledger.get(key(other["id"])) is not None


def test_another_process_reads_what_was_written(ledger, spec, tmp_path):
    ledger.accept(order(spec), "running")
    assert Ledger(tmp_path / "ledger.sqlite3").get(key(spec["id"])).spec == spec
    assert look(tmp_path / "ledger.sqlite3", key(spec["id"])).spec == spec
    assert look(tmp_path / "none.sqlite3", key(spec["id"])) is None


def test_whatever_the_type_a_newer_spec_takes_the_place_of_an_older_one(ledger):
    volume = {"id": make_spec()["id"], "size_gib": 10}
    ledger.accept(order(volume, 1, type_="volume"), "available")
    ledger.accept(order({**volume, "size_gib": 20}, 2, type_="volume"), "available")
    entry = ledger.get(Key("volume", volume["id"]))
    assert (entry.generation, entry.spec["size_gib"]) == (2, 20)


def test_resources_of_two_types_may_have_one_id(ledger, spec):
    ledger.accept(order(spec, 7), "running")
    ledger.accept(order({"id": spec["id"]}, 1, type_="volume"), "available")
    report = ledger.saw(Key("volume", spec["id"]), "available", {})
    assert report["resource"] == {"type": "volume", "id": spec["id"]}
    assert [(entry.type, entry.seen) for entry in ledger.entries()] == [
        ("instance", "unknown"),
        ("volume", "available"),
    ]
    assert [entry.type for entry in ledger.entries("volume")] == ["volume"]
