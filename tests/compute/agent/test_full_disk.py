"""A host whose disk is full: it says so, does nothing that it cannot write down, and can be started."""

import sqlite3

import pytest

from agent.ledger import Ledger
from compute.agent.records import Records
from tests.hosts import make_spec

LONG = "x" * 200_000  # needs new pages of the ledger


@pytest.fixture
def full(node):
    """Fills the ledger's disk, and makes room again."""

    def fill(*, full: bool = True):
        connection = node.ledger._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages if full else 1 << 30}")

    return fill


def test_orders_are_answered_from_memory_and_the_heartbeat_tells(node, control_plane, obey, spec, full):
    assert obey("ensure_running", spec)["seen"] == "running"
    full()
    long = {**spec, "seed": {**spec["seed"], "user_data": LONG}}
    control_plane.order("ensure_stopped", long, 2)
    other = make_spec("other")
    other["seed"]["user_data"] = LONG
    control_plane.order("ensure_running", other, 1)
    node.look()
    node.send_reports()
    for spec_, generation in ((spec, 2), (other, 1)):
        report = control_plane.last(spec_["id"])
        assert (report["seen"], report["generation"]) == ("broken", generation)
        assert "the host failed" in report["facts"]["problem"]
        assert "full" in report["facts"]["problem"]
    assert node.hypervisor.running() == {spec["id"]}, "nothing was done that is not written down"
    before = [control_plane.last(spec["id"])["sequence"], len(control_plane.reports)]
    node.send_reports()
    assert len(control_plane.reports) == before[1], "it is told once"
    node.ledger._connection.execute("PRAGMA query_only = 1")  # not even a few bytes fit
    node.heartbeat()
    (problem,) = control_plane.beats[-1]["problems"]
    assert problem["what"] == "disk"
    assert "cannot write its ledger" in problem["problem"]

    full(full=False)
    node.ledger._connection.execute("PRAGMA query_only = 0")
    node.heartbeat()
    assert control_plane.beats[-1]["problems"] == []
    assert obey("ensure_stopped", long, 3)["seen"] == "stopped"
    assert control_plane.last(spec["id"])["sequence"] > before[0], "later reports are not taken for older ones"
    assert obey("ensure_running", other, 2)["seen"] == "running"


def test_what_was_done_before_the_disk_was_full_is_told_and_written_later(node, control_plane, spec, full, monkeypatch):
    start = node.hypervisor.start

    def start_and_fill(boot):
        process = start(boot)
        monkeypatch.setattr(node.ledger, "saw", refuse)
        return process

    saw = node.ledger.saw

    def refuse(*arguments, **named):
        full()
        with node.ledger.write() as connection:
            connection.execute("UPDATE resource SET spec = ?", (LONG,))

    monkeypatch.setattr(node.hypervisor, "start", start_and_fill)
    control_plane.order("ensure_running", spec, 1)
    node.look()
    node.send_reports()
    report = control_plane.last(spec["id"])
    assert (report["seen"], report["generation"]) == ("running", 1)
    assert node.entry(spec["id"]).order is not None

    full(full=False)
    monkeypatch.setattr(node.ledger, "saw", saw)
    node.send_reports()
    assert (node.entry(spec["id"]).order, node.entry(spec["id"]).seen) == (None, "running")
    assert control_plane.last(spec["id"])["sequence"] > report["sequence"]


def test_a_worker_starts_without_writing(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    Records(Ledger(path))
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")  # from here on nobody else can write
        Records(Ledger(path))


def test_a_write_that_fails_has_not_happened_and_the_next_one_does(node, full):
    full()
    with pytest.raises(OSError, match="cannot write its ledger"), node.ledger.write() as connection:
        connection.execute("INSERT INTO schema_of VALUES (?, 1)", (LONG,))
    full(full=False)
    assert len(node.ledger.rows("SELECT * FROM schema_of")) == 1
    with node.ledger.write() as connection:
        connection.execute("INSERT INTO schema_of VALUES (?, 1)", (LONG,))
    assert len(node.ledger.rows("SELECT * FROM schema_of")) == 2
