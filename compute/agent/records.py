"""What only machines have in the ledger: the process of an emulator, its user, reboots and interruptions."""

import time
from dataclasses import dataclass
from typing import Any

from agent.entries import Key
from agent.errors import Refused
from agent.ledger import Ledger
from agent.processes import Process

TYPE = "instance"

SCHEMA = (
    """
CREATE TABLE machine (
    id TEXT PRIMARY KEY,
    pid INTEGER,
    started INTEGER,
    boot_id TEXT,
    uid INTEGER,
    reboot_nonce TEXT,
    interrupted_at INTEGER NOT NULL DEFAULT 0
) STRICT
""",
    "INSERT INTO machine SELECT id, pid, started, boot_id, uid, reboot_nonce, interrupted_at FROM machine_until_3",
    "DROP TABLE machine_until_3",
)


def key(machine_id: str) -> Key:
    return Key(TYPE, machine_id)


@dataclass(frozen=True)
class Record:
    """One machine's. `process`: its emulator, until that is known to have ended; `uid`: the emulator's user.

    `reboot_nonce`: the reboot that was done last; `interrupted_at`: when it was switched off with its host, not by
    anybody's wish, in seconds since the epoch, 0: it was not.
    """

    process: Process | None = None
    boot_id: str | None = None
    uid: int | None = None
    reboot_nonce: str | None = None
    interrupted_at: int = 0


class Records:
    """The records of all machines of a host, in its ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        ledger.migrate("compute", SCHEMA)

    def get(self, machine_id: str) -> Record:
        rows = self._ledger.rows("SELECT * FROM machine WHERE id = ?", (machine_id,))
        return _record(rows[0]) if rows else Record()

    def all(self) -> dict[str, Record]:
        """By machine id, those of machines that are gone among them."""
        return {row["id"]: _record(row) for row in self._ledger.rows("SELECT * FROM machine ORDER BY id")}

    def started(self, machine_id: str, process: Process, *, boot_id: str, reboot_nonce: str | None) -> None:
        """The machine's emulator is this process; a start also fulfils whatever reboot was wished."""
        values = {"pid": process.pid, "started": process.started, "boot_id": boot_id}
        self._change(machine_id, **values, **({"reboot_nonce": reboot_nonce} if reboot_nonce else {}))

    def ended(self, machine_id: str) -> None:
        """The machine has no emulator."""
        self._change(machine_id, pid=None, started=None)

    def rebooted(self, machine_id: str, nonce: str) -> None:
        self._change(machine_id, reboot_nonce=nonce)

    def interrupt(self, machine_id: str, *, interrupted: bool = True) -> None:
        """The machine was switched off with its host: it is to run again with it."""
        self._change(machine_id, interrupted_at=int(time.time()) if interrupted else 0)

    def adopt(self, machine_id: str, uid: int | None) -> None:
        """A machine that the ledger has never heard of, whose files belong to `uid`."""
        self._change(machine_id, uid=uid)

    def assign_uid(self, machine_id: str, first: int, count: int) -> int:
        """The machine's user: the one it has, or the next that no machine had lately. Raises Refused."""
        with self._ledger.write() as connection:
            rows = connection.execute(
                """
                SELECT machine.id, uid, coalesce(seen, 'gone') AS seen
                FROM machine LEFT JOIN resource ON (resource.type, resource.id) = (?, machine.id)
                WHERE uid IS NOT NULL
                """,
                (TYPE,),
            ).fetchall()
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
            connection.execute("INSERT INTO machine (id) VALUES (?) ON CONFLICT DO NOTHING", (machine_id,))
            connection.execute("UPDATE machine SET uid = ? WHERE id = ?", (uid, machine_id))
            return uid

    def forget(self) -> None:
        """Drop the records of machines that the ledger has forgotten."""
        with self._ledger.write() as connection:
            connection.execute("DELETE FROM machine WHERE id NOT IN (SELECT id FROM resource WHERE type = ?)", (TYPE,))

    def _change(self, machine_id: str, **values: Any) -> None:
        columns = ", ".join(f"{column} = ?" for column in values)
        with self._ledger.write() as connection:
            connection.execute("INSERT INTO machine (id) VALUES (?) ON CONFLICT DO NOTHING", (machine_id,))
            connection.execute(f"UPDATE machine SET {columns} WHERE id = ?", (*values.values(), machine_id))  # noqa: S608


def _record(row: Any) -> Record:
    return Record(
        process=Process(row["pid"], row["started"]) if row["pid"] is not None else None,
        boot_id=row["boot_id"],
        uid=row["uid"],
        reboot_nonce=row["reboot_nonce"],
        interrupted_at=row["interrupted_at"],
    )
