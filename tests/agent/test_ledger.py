"""The ledger: durable, and never behind what was done."""

import sqlite3
import threading

import pytest

from agent.errors import Stale
from agent.ledger import SCHEMA, Ledger
from agent.processes import Process
from tests.hosts import make_spec

FIRST, COUNT = 1000, 4


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger.sqlite3")


def order(spec, generation=1, number="1"):
    resource = {"type": "instance", "id": spec["id"]}
    return {"id": number, "resource": resource, "verb": "ensure_running", "generation": generation, "spec": spec}


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
    assert ledger.get(spec["id"]).generation == 2


def test_the_spec_of_a_delete_does_not_erase_what_is_known(ledger, spec):
    ledger.accept(order(spec), "running")
    ledger.accept(order({"id": spec["id"]}, 2), "gone")
    assert ledger.get(spec["id"]).spec["hypervisor"] == "qemu"


def test_only_the_order_that_was_obeyed_is_answered(ledger, spec):
    ledger.accept(order(spec, 1, "1"), "running")
    ledger.accept(order(spec, 2, "2"), "running")
    ledger.saw(spec["id"], "running", {}, answers=order(spec, 1, "1"))
    assert ledger.get(spec["id"]).order["id"] == "2"
    ledger.saw(spec["id"], "running", {}, answers=order(spec, 2, "2"))
    assert ledger.get(spec["id"]).order is None


def test_a_later_report_is_still_owed_when_an_earlier_one_was_taken(ledger, spec):
    ledger.accept(order(spec), "running")
    first = ledger.saw(spec["id"], "running", {})
    second = ledger.saw(spec["id"], "stopped", {"cause": "crash"})
    ledger.acknowledged(spec["id"], first["sequence"])
    assert [entry.report for entry in ledger.unanswered()] == [second]
    ledger.acknowledged(spec["id"], second["sequence"])
    assert ledger.unanswered() == []


def test_another_process_reads_what_was_written(ledger, spec, tmp_path):
    ledger.accept(order(spec), "running")
    ledger.started(spec["id"], Process(7, 9), boot_id="b", reboot_nonce="n")
    entry = Ledger(tmp_path / "ledger.sqlite3").get(spec["id"])
    assert (entry.process, entry.boot_id, entry.reboot_nonce) == (Process(7, 9), "b", "n")


def test_uids_are_not_shared_and_not_soon_used_again(ledger):
    specs = [make_spec() for _ in range(COUNT + 1)]
    for each in specs:
        ledger.accept(order(each), "running")
    first, second = (ledger.assign_uid(each["id"], FIRST, COUNT) for each in specs[:2])
    assert ledger.assign_uid(specs[0]["id"], FIRST, COUNT) == first
    assert len({first, second}) == 2
    ledger.accept(order(specs[0], 2), "gone")
    ledger.saw(specs[0]["id"], "gone", {})
    third, fourth = (ledger.assign_uid(each["id"], FIRST, COUNT) for each in specs[2:4])
    assert {second, third, fourth} == {FIRST + 1, FIRST + 2, FIRST + 3}
    assert ledger.assign_uid(specs[4]["id"], FIRST, COUNT) == first  # nothing else is left


def test_threads_do_not_lose_writes(ledger):
    specs = [make_spec() for _ in range(8)]

    def work(spec):
        for generation in range(1, 20):
            ledger.accept(order(spec, generation), "running")
            ledger.saw(spec["id"], "running", {})

    threads = [threading.Thread(target=work, args=(spec,)) for spec in specs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {ledger.get(spec["id"]).generation for spec in specs} == {19}


def test_a_failed_write_leaves_nothing_half_done(ledger, spec):
    ledger.accept(order(spec), "running")

    def fail_halfway():
        with ledger._write() as connection:
            connection.execute("UPDATE machine SET generation = 5")
            connection.execute("UPDATE machine SET generation = NULL")

    with pytest.raises(sqlite3.IntegrityError):
        fail_halfway()
    assert ledger.get(spec["id"]).generation == 1


def test_an_older_file_is_brought_up_to_date(tmp_path, spec):
    path = tmp_path / "older.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute(SCHEMA[0])
    connection.execute(
        "INSERT INTO machine (id, generation, sequence, wanted, spec) VALUES (?, 3, 0, 'running', '{}')", (spec["id"],)
    )
    connection.commit()
    for _ in range(2):
        assert Ledger(path).get(spec["id"]).generation == 3
    assert Ledger(path).get(spec["id"]).interrupted_at == 0


def test_old_tombstones_are_forgotten_others_are_not(ledger, spec):
    other = make_spec()
    for each in (spec, other):
        ledger.accept(order(each), "gone")
        ledger.acknowledged(each["id"], ledger.saw(each["id"], "gone", {})["sequence"])
    ledger._connection.execute(
        "UPDATE machine SET changed_at = datetime('now', '-31 days') WHERE id = ?", (spec["id"],)
    )
    ledger.forget_tombstones()
    assert ledger.get(spec["id"]) is None
    assert ledger.get(other["id"]) is not None
