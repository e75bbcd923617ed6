"""The ledger: what this host was told and what it saw, written before anything is done about it.

One SQLite file, WAL, synchronous=FULL: a row that was written survives a power cut. The host worker writes, the node
service and the command line read. There is one row for each resource; what only resources of one kind have is in
tables of that kind's own (`migrate`). A resource that is gone keeps its row for a while, so that a late order from
before its deletion is known to be old.
"""

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.entries import Entry, Key, key_of
from agent.errors import NotWritten, Stale
from agent.ledger_schema import SCHEMA

TOMBSTONES_ARE_KEPT = "-30 days"
GONE = "ensure_gone"  # the verb of every kind that ends a resource; its order may carry no spec
# What its tenant had given it (user data) goes with the resource.
EMPTY_TOMBSTONES = "UPDATE resource SET spec = '{}' WHERE seen = 'gone' AND wanted = 'gone' AND spec != '{}'"


class Ledger:
    """The host's ledger at `path`. Safe to use from many threads; each write is durable when it returns."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        self._connection.row_factory = sqlite3.Row
        path.chmod(0o600)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA secure_delete = ON")  # what is dropped is not in the file any more
        self.problem = ""  # why the last write failed
        self._told: dict[Key, int] = {}  # the highest sequence of a report that is not in the file
        if self._version() < len(SCHEMA):  # a worker has to start on a full disk
            with self.write() as connection:
                for step in SCHEMA[self._version() :]:
                    connection.execute(step)
                connection.execute(f"PRAGMA user_version = {len(SCHEMA)}")

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    # For kinds that have tables of their own

    def migrate(self, owner: str, steps: Sequence[str]) -> None:
        """Bring the tables of one app up to date: each step once, in order."""
        if self._version_of(owner) >= len(steps):
            return
        with self.write() as connection:
            for step in steps[self._version_of(owner) :]:
                connection.execute(step)
            connection.execute("INSERT OR REPLACE INTO schema_of VALUES (?, ?)", (owner, len(steps)))

    def _version_of(self, owner: str) -> int:
        rows = self.rows("SELECT version FROM schema_of WHERE owner = ?", (owner,))
        return int(rows[0]["version"]) if rows else 0

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction. Raises NotWritten when it cannot be made durable: then it has not happened."""
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as fault:
                if self._connection.in_transaction:
                    with contextlib.suppress(sqlite3.OperationalError):
                        self._connection.execute("ROLLBACK")
                if not isinstance(fault, sqlite3.OperationalError):
                    raise
                self.problem = f"this host cannot write its ledger: {fault}"
                raise NotWritten(self.problem) from fault
            self.problem = ""

    def try_again(self) -> str:
        """After a write has failed: whether one succeeds now; the problem if it does not."""
        if self.problem:
            with contextlib.suppress(NotWritten), self.write() as connection:
                connection.execute(f"PRAGMA user_version = {self._version()}")
        return self.problem

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(query, parameters).fetchall()

    # Reading

    def get(self, key: Key) -> Entry | None:
        rows = self.rows("SELECT * FROM resource WHERE (type, id) = (?, ?)", key)
        return Entry.of(rows[0]) if rows else None

    def entries(self, type_: str | None = None) -> list[Entry]:
        """All resources that are on this host, or those of one type, without tombstones."""
        there = "(seen != 'gone' OR wanted != 'gone')"
        return self._select(there) if type_ is None else self._select(f"type = ? AND {there}", type_)

    def unanswered(self) -> list[Entry]:
        """Resources with a report that the control plane has not acknowledged."""
        return self._select("report IS NOT NULL")

    def in_hand(self) -> list[Entry]:
        """Resources with an order that was begun and not answered."""
        return self._select('"order" IS NOT NULL')

    def _select(self, condition: str, *parameters: str) -> list[Entry]:
        query = f"SELECT * FROM resource WHERE {condition} ORDER BY type, id"  # noqa: S608
        return [Entry.of(row) for row in self.rows(query, parameters)]

    # Orders

    def accept(self, order: dict[str, Any], wanted: str) -> Entry:
        """Write down an order before obeying it. Raises Stale when a newer one was accepted before."""
        key, generation = key_of(order), int(order["generation"])
        without_spec = {name: value for name, value in order.items() if name != "spec"}
        with self.write() as connection:
            known = connection.execute("SELECT generation FROM resource WHERE (type, id) = (?, ?)", key).fetchone()
            if known and known["generation"] > generation:
                raise Stale(known["generation"])
            connection.execute(
                """
                INSERT INTO resource (type, id, generation, sequence, wanted, spec, "order")
                VALUES (?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (type, id) DO UPDATE SET generation = excluded.generation, wanted = excluded.wanted,
                    spec = CASE WHEN ? THEN spec ELSE excluded.spec END,
                    "order" = excluded."order", quarantined = 0, changed_at = datetime('now')
                """,
                (
                    *(*key, generation, _first_sequence(), wanted),
                    *(json.dumps(order.get("spec") or {}), json.dumps(without_spec), order["verb"] == GONE),
                ),
            )
        entry = self.get(key)
        assert entry is not None
        return entry

    def refuse(self, order: dict[str, Any]) -> dict[str, Any]:
        """The report that says: this order is older than what I obey."""
        key = key_of(order)
        with self.write() as connection:
            row = connection.execute("SELECT * FROM resource WHERE (type, id) = (?, ?)", key).fetchone()
            report = {
                "resource": key._asdict(),
                "generation": int(order["generation"]),
                "sequence": self._above(key, row["sequence"]),
                "seen": row["seen"],
                "facts": {"refused": {"ledger_generation": row["generation"]}},
            }
            connection.execute(
                "UPDATE resource SET sequence = ?, report = ? WHERE (type, id) = (?, ?)",
                (report["sequence"], json.dumps(report), *key),
            )
        return report

    def dropped(self, key: Key, order_id: str) -> None:
        """The order in hand is no longer ours: the control plane gave it up or put another in its place."""
        with self.write() as connection:
            connection.execute(
                """
                UPDATE resource SET "order" = NULL
                WHERE (type, id) = (?, ?) AND json_extract("order", '$.id') = ?
                """,
                (*key, order_id),
            )

    # Reports

    def take_sequence(self, key: Key) -> int:
        """The sequence of a report that cannot be written down; those that are written later are above it."""
        with self._lock:
            rows = self.rows("SELECT sequence FROM resource WHERE (type, id) = (?, ?)", key)
            self._told[key] = self._above(key, rows[0]["sequence"] if rows else _first_sequence())
            return self._told[key]

    def _above(self, key: Key, sequence: int) -> int:
        return max(sequence, self._told.get(key, 0)) + 1

    def saw(
        self, key: Key, seen: str, facts: dict[str, Any], *, answers: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Write down what is seen, and the report of it that is owed to the control plane until it acknowledges one.

        `answers`: the order that this ends. A later report takes the place of an earlier one that was not sent yet.
        """
        with self.write() as connection:
            row = connection.execute(
                'SELECT *, "order" AS in_hand FROM resource WHERE (type, id) = (?, ?)', key
            ).fetchone()
            sequence = self._above(key, row["sequence"])
            report = {
                "resource": {"type": row["type"], "id": row["id"]},
                "generation": row["generation"],
                "sequence": sequence,
                "seen": seen,
                "facts": facts,
            }
            done = bool(answers and row["in_hand"] and json.loads(row["in_hand"])["id"] == answers["id"])
            connection.execute(
                """
                UPDATE resource SET sequence = ?, seen = ?, facts = ?, report = ?, changed_at = datetime('now'),
                    "order" = CASE WHEN ? THEN NULL ELSE "order" END
                WHERE (type, id) = (?, ?)
                """,
                (sequence, seen, json.dumps(facts), json.dumps(report), done, *key),
            )
            connection.execute(f"{EMPTY_TOMBSTONES} AND (type, id) = (?, ?)", key)
        return report

    def acknowledged(self, key: Key, sequence: int) -> None:
        """The control plane has taken, or does not want, the report of this sequence; a later one is still owed."""
        with self.write() as connection:
            connection.execute(
                """
                UPDATE resource SET report = NULL
                WHERE (type, id) = (?, ?) AND json_extract(report, '$.sequence') <= ?
                """,
                (*key, sequence),
            )

    # Quarantine and tombstones

    def take_in_stranger(self, key: Key, seen: str) -> None:
        """A resource that is on this host, and that this ledger has never heard of."""
        with self.write() as connection:
            connection.execute(
                """
                INSERT INTO resource (type, id, generation, sequence, wanted, spec, seen)
                VALUES (?, ?, 0, ?, 'unknown', '{}', ?)
                """,
                (*key, _first_sequence(), seen),
            )

    def quarantine(self, key: Key, *, quarantined: bool = True) -> None:
        with self.write() as connection:
            connection.execute("UPDATE resource SET quarantined = ? WHERE (type, id) = (?, ?)", (quarantined, *key))

    def forget_tombstones(self) -> None:
        """Drop the rows of resources that went long ago; of the others keep no more than the numbers."""
        with self.write() as connection:
            connection.execute(EMPTY_TOMBSTONES)
            connection.execute(
                """
                DELETE FROM resource WHERE seen = 'gone' AND wanted = 'gone' AND report IS NULL
                    AND changed_at < datetime('now', ?)
                """,
                (TOMBSTONES_ARE_KEPT,),
            )


def is_older(path: Path) -> bool:
    """Whether an older agent wrote this file: its worker may be running still, and could not go on with a newer one."""
    if not path.exists():
        return False
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=2)) as connection:
        return bool(connection.execute("PRAGMA user_version").fetchone()[0] < len(SCHEMA))


def look(path: Path, key: Key) -> Entry | None:
    """A resource's page, for those who only read: the worker may be writing, or not be there at all."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=2)) as connection:
            connection.row_factory = sqlite3.Row
            row = connection.execute("SELECT * FROM resource WHERE (type, id) = (?, ?)", key).fetchone()
    except sqlite3.OperationalError:
        return None  # there is no ledger yet, or the worker has not brought it up to date
    return Entry.of(row) if row else None


def _first_sequence() -> int:
    """Where a resource's reports begin to count: above those of a lost ledger, reports being rarer than seconds."""
    return int(time.time())
