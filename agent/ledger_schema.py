"""The tables of the ledger, and how older files come to have them."""

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
    # There were only instances until here. What only they have stays in the old table, for compute to take over.
    "ALTER TABLE machine RENAME TO machine_until_3",
    """
CREATE TABLE resource (
    type TEXT NOT NULL,
    id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    wanted TEXT NOT NULL,
    spec TEXT NOT NULL,
    seen TEXT NOT NULL DEFAULT 'unknown',
    facts TEXT NOT NULL DEFAULT '{}',
    quarantined INTEGER NOT NULL DEFAULT 0,
    "order" TEXT,
    report TEXT,
    changed_at TEXT NOT NULL DEFAULT (datetime('now')),
    PRIMARY KEY (type, id)
) STRICT
""",
    """
INSERT INTO resource
    SELECT 'instance', id, generation, sequence, wanted, spec, seen, facts, quarantined, "order", report, changed_at
    FROM machine_until_3
""",
    "CREATE TABLE schema_of (owner TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT",
)
