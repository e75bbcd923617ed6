"""Entries of the ledger: one resource each."""

import json
import sqlite3
from dataclasses import dataclass
from typing import Any, NamedTuple


class Key(NamedTuple):
    """What names a resource: ids of different types may be the same."""

    type: str
    id: str


@dataclass(frozen=True)
class Entry:
    """One resource's page. `order`: the order in hand; `report`: what the control plane has not acknowledged yet."""

    type: str
    id: str
    generation: int
    sequence: int
    wanted: str
    spec: dict[str, Any]
    seen: str
    facts: dict[str, Any]
    quarantined: bool
    order: dict[str, Any] | None
    report: dict[str, Any] | None

    @property
    def key(self) -> Key:
        return Key(self.type, self.id)

    @classmethod
    def of(cls, row: sqlite3.Row) -> "Entry":
        """From a row of the table `resource`."""
        return cls(
            type=row["type"],
            id=row["id"],
            generation=row["generation"],
            sequence=row["sequence"],
            wanted=row["wanted"],
            spec=json.loads(row["spec"]),
            seen=row["seen"],
            facts=json.loads(row["facts"]),
            quarantined=bool(row["quarantined"]),
            order=json.loads(row["order"]) | {"spec": json.loads(row["spec"])} if row["order"] else None,
            report=json.loads(row["report"]) if row["report"] else None,
        )


def key_of(order: dict[str, Any]) -> Key:
    """The resource that an order is for."""
    return Key(order["resource"]["type"], order["resource"]["id"])
