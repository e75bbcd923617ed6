"""The ledger: what this host was told and what it saw, written before anything is done about it.

One SQLite file, WAL, synchronous=FULL: a row that was written survives a power cut. The host worker writes, the node
service and the command line read. A machine that is gone keeps its row for a while, so that a late order from before
its deletion is known to be old.
"""

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import Refused, Stale
from agent.processes import Process

# Each step once, in order; how many a file has had is its user_version.
SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS machine (
    id TEXT PRIMARY KEY,
    generation INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    wanted TEXT NOT NULL,
    spec TEXT NOT NULL,
    reboot_nonce TEXT,
    seen TEXT NOT NULL DEFAULT 'unknown',
    facts TEXT NOT NULL DEFAULT '{}',
    pid INTEGER,
    started INTEGER,
    boot_id TEXT,
    uid INTEGER,
    quarantined INTEGER NOT NULL DEFAULT 0,
    interrupted INTEGER NOT NULL DEFAULT 0,
    "order" TEXT,
    report TEXT,
    changed_at TEXT NOT NULL DEFAULT (datetime('now'))
) STRICT
""",
    "ALTER TABLE machine RENAME COLUMN interrupted TO interrupted_at",
)
TOMBSTONES_ARE_KEPT = "-30 days"


@dataclass(frozen=True)
class Entry:
    """One machine's page. `order`: the order in hand; `report`: what the control plane has not acknowledged yet.

    `interrupted_at`: when it was stopped with its host, not by anybody's wish; in seconds since the epoch, 0: never.
    """

    id: str
    generation: int
    sequence: int
    wanted: str
    spec: dict[str, Any]
    reboot_nonce: str | None
    seen: str
    facts: dict[str, Any]
    process: Process | None
    boot_id: str | None
    uid: int | None
    quarantined: bool
    interrupted_at: int
    order: dict[str, Any] | None
    report: dict[str, Any] | None


class Ledger:
    """The host's ledger at `path`. Safe to use from many threads; each write is durable when it returns."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        self._connection.row_factory = sqlite3.Row
        path.chmod(0o600)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        with self._write() as connection:
            had = connection.execute("PRAGMA user_version").fetchone()[0]
            for step in SCHEMA[had:]:
                connection.execute(step)
            connection.execute(f"PRAGMA user_version = {max(had, len(SCHEMA))}")

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def get(self, machine_id: str) -> Entry | None:
        with self._lock:
            row = self._connection.execute("SELECT * FROM machine WHERE id = ?", (machine_id,)).fetchone()
        return _entry(row) if row else None

    def entries(self) -> list[Entry]:
        """All machines that are on this host, without tombstones."""
        return self._select("seen != 'gone' OR wanted != 'gone'")

    def dead(self) -> list[str]:
        """Ids of all machines that have no emulator as far as is known, those that are gone among them."""
        with self._lock:
            rows = self._connection.execute("SELECT id FROM machine WHERE pid IS NULL").fetchall()
        return [row["id"] for row in rows]

    def unanswered(self) -> list[Entry]:
        """Machines with a report that the control plane has not acknowledged."""
        return self._select("report IS NOT NULL")

    def in_hand(self) -> list[Entry]:
        """Machines with an order that was begun and not answered."""
        return self._select('"order" IS NOT NULL')

    def _select(self, condition: str) -> list[Entry]:
        with self._lock:
            rows = self._connection.execute(f"SELECT * FROM machine WHERE {condition} ORDER BY id").fetchall()  # noqa: S608
        return [_entry(row) for row in rows]

    def accept(self, order: dict[str, Any], wanted: str) -> Entry:
        """Write down an order before obeying it. Raises Stale when a newer one was accepted before."""
        machine_id, generation = order["resource"]["id"], int(order["generation"])
        without_spec = {key: value for key, value in order.items() if key != "spec"}
        with self._write() as connection:
            known = connection.execute("SELECT generation FROM machine WHERE id = ?", (machine_id,)).fetchone()
            if known and known["generation"] > generation:
                raise Stale(known["generation"])
            connection.execute(
                """
                INSERT INTO machine (id, generation, sequence, wanted, spec, "order") VALUES (?, ?, ?, ?, ?, ?)
                ON CONFLICT (id) DO UPDATE SET generation = excluded.generation, wanted = excluded.wanted,
                    spec = CASE WHEN json_type(excluded.spec, '$.hypervisor') IS NULL THEN spec ELSE excluded.spec END,
                    "order" = excluded."order", quarantined = 0, interrupted_at = 0,
                    changed_at = datetime('now')
                """,
                (
                    *(machine_id, generation, _first_sequence(), wanted),
                    *(json.dumps(order.get("spec") or {}), json.dumps(without_spec)),
                ),
            )
        entry = self.get(machine_id)
        assert entry is not None
        return entry

    def assign_uid(self, machine_id: str, first: int, count: int) -> int:
        """The machine's user: the one it has, or the next that no machine had lately. Raises Refused."""
        with self._write() as connection:
            rows = connection.execute("SELECT id, uid, seen FROM machine WHERE uid IS NOT NULL").fetchall()
            used = {row["uid"]: row for row in rows if first <= row["uid"] < first + count}
            for uid, owner in used.items():
                if owner["id"] == machine_id:
                    return int(uid)
            latest = max(used, default=first - 1)
            offset = latest - first + 1
            in_turn = (first + (offset + step) % count for step in range(count))
            never_used = (uid for uid in in_turn if uid not in used)
            free_again = (uid for uid in sorted(used) if used[uid]["seen"] == "gone")
            uid = next(never_used, None) or next(free_again, None)
            if uid is None:
                raise Refused(f"all {count} users for machines are taken")
            connection.execute("UPDATE machine SET uid = NULL WHERE uid = ?", (uid,))
            connection.execute("UPDATE machine SET uid = ? WHERE id = ?", (uid, machine_id))
            return uid

    def started(self, machine_id: str, process: Process, *, boot_id: str, reboot_nonce: str | None) -> None:
        """The machine's emulator is this process; a start also fulfils whatever reboot was wished."""
        with self._write() as connection:
            connection.execute(
                """
                UPDATE machine SET pid = ?, started = ?, boot_id = ?, reboot_nonce = coalesce(?, reboot_nonce)
                WHERE id = ?
                """,
                (process.pid, process.started, boot_id, reboot_nonce, machine_id),
            )

    def rebooted(self, machine_id: str, nonce: str) -> None:
        with self._write() as connection:
            connection.execute("UPDATE machine SET reboot_nonce = ? WHERE id = ?", (nonce, machine_id))

    def saw(
        self, machine_id: str, seen: str, facts: dict[str, Any], *, answers: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Write down what is seen, and the report of it that is owed to the control plane until it acknowledges one.

        `answers`: the order that this ends. A later report takes the place of an earlier one that was not sent yet.
        """
        with self._write() as connection:
            row = connection.execute('SELECT *, "order" AS in_hand FROM machine WHERE id = ?', (machine_id,)).fetchone()
            sequence = row["sequence"] + 1
            report = {
                "resource": {"type": "instance", "id": machine_id},
                "generation": row["generation"],
                "sequence": sequence,
                "seen": seen,
                "facts": facts,
            }
            done = bool(answers and row["in_hand"] and json.loads(row["in_hand"])["id"] == answers["id"])
            connection.execute(
                """
                UPDATE machine SET sequence = ?, seen = ?, facts = ?, report = ?, changed_at = datetime('now'),
                    "order" = CASE WHEN ? THEN NULL ELSE "order" END,
                    pid = CASE WHEN ? IN ('running', 'paused') THEN pid END
                WHERE id = ?
                """,
                (sequence, seen, json.dumps(facts), json.dumps(report), done, seen, machine_id),
            )
        return report

    def refuse(self, order: dict[str, Any]) -> dict[str, Any]:
        """The report that says: this order is older than what I obey."""
        machine_id = order["resource"]["id"]
        with self._write() as connection:
            row = connection.execute("SELECT * FROM machine WHERE id = ?", (machine_id,)).fetchone()
            report = {
                "resource": {"type": "instance", "id": machine_id},
                "generation": int(order["generation"]),
                "sequence": row["sequence"] + 1,
                "seen": row["seen"],
                "facts": {"refused": {"ledger_generation": row["generation"]}},
            }
            connection.execute(
                "UPDATE machine SET sequence = sequence + 1, report = ? WHERE id = ?", (json.dumps(report), machine_id)
            )
        return report

    def acknowledged(self, machine_id: str, sequence: int) -> None:
        """The control plane has taken, or does not want, the report of this sequence; a later one is still owed."""
        with self._write() as connection:
            connection.execute(
                "UPDATE machine SET report = NULL WHERE id = ? AND json_extract(report, '$.sequence') <= ?",
                (machine_id, sequence),
            )

    def dropped(self, machine_id: str, order_id: str) -> None:
        """The order in hand is no longer ours: the control plane gave it up or put another in its place."""
        with self._write() as connection:
            connection.execute(
                """
                UPDATE machine SET "order" = NULL WHERE id = ? AND json_extract("order", '$.id') = ?
                """,
                (machine_id, order_id),
            )

    def take_in_stranger(self, machine_id: str, *, uid: int | None) -> None:
        """A machine that this ledger has never heard of, whose files belong to `uid`."""
        with self._write() as connection:
            connection.execute(
                """
                INSERT INTO machine (id, generation, sequence, wanted, spec, seen, uid)
                VALUES (?, 0, ?, 'unknown', '{}', 'stopped', ?)
                """,
                (machine_id, _first_sequence(), uid),
            )

    def quarantine(self, machine_id: str, *, quarantined: bool = True) -> None:
        with self._write() as connection:
            connection.execute("UPDATE machine SET quarantined = ? WHERE id = ?", (quarantined, machine_id))

    def interrupt(self, machine_id: str, *, interrupted: bool = True) -> None:
        """The machine was stopped with its host: it is to run again with it."""
        with self._write() as connection:
            at = int(time.time()) if interrupted else 0
            connection.execute("UPDATE machine SET interrupted_at = ? WHERE id = ?", (at, machine_id))

    def forget_tombstones(self) -> None:
        """Drop the rows of machines that went long ago."""
        with self._write() as connection:
            connection.execute(
                """
                DELETE FROM machine WHERE seen = 'gone' AND wanted = 'gone' AND report IS NULL
                    AND changed_at < datetime('now', ?)
                """,
                (TOMBSTONES_ARE_KEPT,),
            )


def look(path: Path, machine_id: str) -> Entry | None:
    """A machine's page, for those who only read: the worker may be writing, or not be there at all."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=2)) as connection:
            connection.row_factory = sqlite3.Row
            row = connection.execute("SELECT * FROM machine WHERE id = ?", (machine_id,)).fetchone()
    except sqlite3.OperationalError:
        return None  # there is no ledger yet
    return _entry(row) if row else None


def _first_sequence() -> int:
    """Where a machine's reports begin to count: above those of a lost ledger, reports being rarer than seconds."""
    return int(time.time())


def _entry(row: sqlite3.Row) -> Entry:
    process = Process(row["pid"], row["started"]) if row["pid"] is not None else None
    return Entry(
        id=row["id"],
        generation=row["generation"],
        sequence=row["sequence"],
        wanted=row["wanted"],
        spec=json.loads(row["spec"]),
        reboot_nonce=row["reboot_nonce"],
        seen=row["seen"],
        facts=json.loads(row["facts"]),
        process=process,
        boot_id=row["boot_id"],
        uid=row["uid"],
        quarantined=bool(row["quarantined"]),
        interrupted_at=row["interrupted_at"],
        order=json.loads(row["order"]) | {"spec": json.loads(row["spec"])} if row["order"] else None,
        report=json.loads(row["report"]) if row["report"] else None,
    )
