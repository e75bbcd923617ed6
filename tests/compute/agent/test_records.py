"""What only machines have in the ledger; and a ledger of an agent that knew nothing but machines."""

import json
import sqlite3

import pytest

from agent.entries import Key
from agent.ledger import Ledger
from agent.ledger_schema import SCHEMA
from agent.processes import Process
from compute.agent.records import Record, Records, key
from tests.hosts import make_spec

FIRST, COUNT = 1000, 4


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger.sqlite3")


@pytest.fixture
def records(ledger):
    return Records(ledger)


def accept(ledger, spec, generation=1, verb="ensure_running", wanted="running"):
    order = {"id": "1", "resource": {"type": "instance", "id": spec["id"]}, "verb": verb, "generation": generation}
    ledger.accept({**order, "spec": spec}, wanted)


def test_another_process_reads_what_was_written(records, spec, tmp_path):
    records.started(spec["id"], Process(7, 9), boot_id="b", reboot_nonce="n")
    record = Records(Ledger(tmp_path / "ledger.sqlite3")).get(spec["id"])
    assert (record.process, record.boot_id, record.reboot_nonce) == (Process(7, 9), "b", "n")


def test_a_start_keeps_the_last_reboot_and_an_end_forgets_the_process(records, spec):
    records.rebooted(spec["id"], "n")
    records.started(spec["id"], Process(7, 9), boot_id="b", reboot_nonce=None)
    records.ended(spec["id"])
    assert records.get(spec["id"]) == Record(boot_id="b", reboot_nonce="n")


def test_uids_are_not_shared_and_not_soon_used_again(ledger, records):
    specs = [make_spec() for _ in range(COUNT + 1)]
    for each in specs:
        accept(ledger, each)
    first, second = (records.assign_uid(each["id"], FIRST, COUNT) for each in specs[:2])
    assert records.assign_uid(specs[0]["id"], FIRST, COUNT) == first
    assert len({first, second}) == 2
    accept(ledger, specs[0], 2, "ensure_gone", "gone")
    ledger.saw(key(specs[0]["id"]), "gone", {})
    third, fourth = (records.assign_uid(each["id"], FIRST, COUNT) for each in specs[2:4])
    assert {second, third, fourth} == {FIRST + 1, FIRST + 2, FIRST + 3}
    assert records.assign_uid(specs[4]["id"], FIRST, COUNT) == first  # nothing else is left


def test_records_are_forgotten_with_their_tombstones(ledger, records, spec):
    other = make_spec()
    accept(ledger, spec)
    for each in (spec, other):
        records.rebooted(each["id"], "n")
    records.forget()
    assert set(records.all()) == {spec["id"]}


# The steps that a ledger had had before there were other resources than instances, and the number that said so.
@pytest.mark.parametrize(("steps", "version", "interrupted"), [(1, 0, "interrupted"), (2, 2, "interrupted_at")])
def test_an_older_file_is_brought_up_to_date(tmp_path, steps, version, interrupted):
    """One machine runs and is being stopped, one is gone."""
    path, runs, gone = tmp_path / "older.sqlite3", make_spec(), make_spec()
    order = {"id": "5", "resource": {"type": "instance", "id": runs["id"]}, "verb": "ensure_stopped", "generation": 3}
    report = {"resource": {"type": "instance", "id": runs["id"]}, "generation": 2, "sequence": 1700000004}
    with sqlite3.connect(path) as connection:
        for step in SCHEMA[:steps]:
            connection.execute(step)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute(
            f"""
            INSERT INTO machine (id, generation, sequence, wanted, spec, reboot_nonce, seen, facts, pid, started,
                boot_id, uid, quarantined, {interrupted}, "order", report)
            VALUES (?, 3, 1700000004, 'stopped', ?, 'n', 'running', '{{"accelerator": "tcg"}}', 77, 99,
                'boot', 1900000007, 1, 5, ?, ?)
            """,
            (runs["id"], json.dumps(runs), json.dumps(order), json.dumps(report)),
        )
        connection.execute(
            "INSERT INTO machine (id, generation, sequence, wanted, spec, seen) VALUES (?, 9, 1, 'gone', '{}', 'gone')",
            (gone["id"],),
        )
    connection.close()
    for _ in range(2):
        ledger = Ledger(path)
        records = Records(ledger)
        entry = ledger.get(Key("instance", runs["id"]))
        assert (entry.generation, entry.sequence, entry.wanted, entry.seen) == (3, 1700000004, "stopped", "running")
        assert (entry.spec, entry.facts, entry.quarantined) == (runs, {"accelerator": "tcg"}, True)
        assert (entry.order, entry.report) == ({**order, "spec": runs}, report)
        assert records.get(runs["id"]) == Record(Process(77, 99), "boot", 1900000007, "n", 5)
        assert [each.id for each in ledger.entries()] == [runs["id"]]
        assert ledger.get(Key("instance", gone["id"])).generation == 9
        ledger.close()
