"""What the ledger of a host knows of the layers of volumes: enough to find them again, and to remove them."""

from collections.abc import Collection, Iterable
from typing import Any

import structlog

from agent.ledger import Ledger

log = structlog.get_logger()

Note = dict[str, Any]  # of a layer: "ceph", the pool where it is, if it is no file, "rbd", its image there, and "stays"

SCHEMA = (
    """
CREATE TABLE layer (
    volume TEXT NOT NULL,
    id TEXT NOT NULL,
    tree TEXT NOT NULL,
    PRIMARY KEY (volume, id)
) STRICT
""",
    "CREATE INDEX layer_by_tree ON layer (tree, id)",
    "CREATE TABLE going (volume TEXT PRIMARY KEY) STRICT",  # what it does not share is all that `layer` still has
    "ALTER TABLE layer ADD COLUMN ceph TEXT",  # the pool of a cluster where it is, if it is no file
    "ALTER TABLE layer ADD COLUMN rbd TEXT",  # its image there; null: one with its own id
    "ALTER TABLE layer ADD COLUMN stays INTEGER NOT NULL DEFAULT 0",  # whether others need something of that image
)


class Notes:
    """Layers by the volumes that know them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        ledger.migrate("storage", SCHEMA)

    def note(self, volume_id: str, spec: dict[str, Any], layers: Iterable[str]) -> None:
        """Record a file before it is made, so that it is found again after a crash."""
        known, images = self.of(volume_id), spec.get("images", {})
        where = (volume_id, spec["tree"], spec.get("ceph"))
        new = [(*where, layer_id, images.get(layer_id)) for layer_id in dict.fromkeys(layers) if layer_id not in known]
        if new:
            with self._ledger.write() as connection:
                connection.executemany("INSERT INTO layer (volume, tree, ceph, id, rbd) VALUES (?, ?, ?, ?, ?)", new)

    def give_up(self, volume_id: str, shared: Collection[str], spec: dict[str, Any]) -> None:
        """It goes, and leaves these to others."""
        with self._ledger.write() as connection:
            stays = "UPDATE layer SET stays = 1 WHERE volume = ? AND coalesce(rbd, id) = ?"
            connection.executemany(stays, [(volume_id, image) for image in set(images_to_keep(spec).values())])
            rows = [(volume_id, layer_id) for layer_id in shared]
            connection.executemany("DELETE FROM layer WHERE volume = ? AND id = ?", rows)
            connection.execute("INSERT OR IGNORE INTO going VALUES (?)", (volume_id,))

    def is_going(self, volume_id: str) -> bool:
        return bool(self._ledger.rows("SELECT 1 FROM going WHERE volume = ?", (volume_id,)))

    def of(self, volume_id: str) -> dict[str, Note]:
        """Its layers, and for each the pool and the image in Ceph where it is, if it is no file."""
        statement = "SELECT id, ceph, coalesce(rbd, id) AS rbd, stays FROM layer WHERE volume = ?"
        return {row["id"]: dict(row) for row in self._ledger.rows(statement, (volume_id,))}

    def images_alone(self, volume_id: str) -> list[str]:
        """The images in Ceph of which no other volume here has anything."""
        rows = self._ledger.rows(
            "SELECT coalesce(rbd, id) AS image FROM layer WHERE ceph IS NOT NULL GROUP BY 1"
            " HAVING sum(volume = ?) > 0 AND sum(volume <> ?) = 0",
            (volume_id, volume_id),
        )
        return [row["image"] for row in rows]

    def tree_of(self, volume_id: str) -> str:
        rows = self._ledger.rows("SELECT tree FROM layer WHERE volume = ? LIMIT 1", (volume_id,))
        return str(rows[0]["tree"]) if rows else ""

    def places(self, tree: str) -> dict[str, tuple[str | None, str]]:
        """Of each layer of a tree the pool in Ceph, if it is in one, and its image there."""
        statement = "SELECT DISTINCT id, ceph, rbd FROM layer WHERE tree = ? ORDER BY id"
        return {row["id"]: (row["ceph"], row["rbd"] or row["id"]) for row in self._ledger.rows(statement, (tree,))}

    def all(self) -> set[str]:
        """The ids of all that any volume has noted."""
        return {row["id"] for row in self._ledger.rows("SELECT DISTINCT id FROM layer")}

    def forget(self, *layers: str) -> None:
        """They have been removed."""
        with self._ledger.write() as connection:
            connection.executemany("DELETE FROM layer WHERE id = ?", [(layer_id,) for layer_id in layers])
        log.info("removed layers", layers=layers)

    def is_gone(self, volume_id: str) -> None:
        with self._ledger.write() as connection:
            connection.execute("DELETE FROM going WHERE volume = ?", (volume_id,))


def images_to_keep(spec: dict[str, Any]) -> dict[str, str]:
    """Of an order to remove a volume: the layers in Ceph that others need, and the image of each."""
    return {layer_id: image for layer_id, image in spec.get("images", {}).items() if layer_id in spec["keep"]}
