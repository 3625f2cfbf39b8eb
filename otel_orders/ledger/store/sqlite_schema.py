"""The tables in a SQLite file, whether a file has them, and how they come from one version to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_orders.errors import ConfigurationError, StoreVersionError

if TYPE_CHECKING:
    import sqlite3

SCHEMA_1 = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE orders (
        place INTEGER PRIMARY KEY,
        order_id TEXT NOT NULL UNIQUE,
        stage INTEGER,
        waiting_since INTEGER,
        due_at INTEGER,
        state BLOB NOT NULL
    )""",
    "CREATE INDEX orders_due ON orders (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX orders_waiting ON orders (stage, waiting_since) WHERE stage IS NOT NULL",
    "CREATE TABLE totals (series TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE seen (
        service TEXT NOT NULL,
        instance TEXT NOT NULL,
        role TEXT NOT NULL,
        at INTEGER NOT NULL,
        lifecycle_hash TEXT NOT NULL,
        PRIMARY KEY (service, instance, role)
    ) WITHOUT ROWID""",
    "PRAGMA user_version = 1",
)
SCHEMA_2 = (
    "CREATE TABLE moments (series TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE messages (
        queue TEXT NOT NULL,
        message_id TEXT NOT NULL,
        order_id TEXT NOT NULL,
        published_at INTEGER,
        settled_at INTEGER,
        PRIMARY KEY (queue, message_id)
    ) WITHOUT ROWID""",
    "CREATE INDEX messages_waiting ON messages (queue, published_at) WHERE settled_at IS NULL",
    "PRAGMA user_version = 2",
)
MIGRATIONS = (SCHEMA_1, SCHEMA_2)
"""What brings a file of each version, from 0, to the next one."""
VERSION = len(MIGRATIONS)
OURS = frozenset({"meta", "orders", "totals"})
"""Tables that a ledger's store has had in every version."""


def check(connection: sqlite3.Connection, path: str) -> int:
    """Return the version of the file's schema, 0 for an empty file.

    path: what the file is called in messages.  Raises ConfigurationError where another application has its tables
    there, StoreVersionError where a newer otel_orders made it.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and not tables >= OURS:
        raise ConfigurationError(f"{path} is no ledger's store, but another application's database: give another file")
    if version > VERSION:
        raise StoreVersionError(
            f"{path} has schema {version}, written by a newer otel_orders; this one knows up to {VERSION}:"
            " upgrade otel_orders, or give it another file"
        )
    return version


def check_present(connection: sqlite3.Connection, path: str) -> None:
    """Raise ConfigurationError where there is no store of this version, which is not made or brought forward here."""
    version = check(connection, path)
    if not version:
        raise ConfigurationError(f"{path} is no ledger's store: it is empty")
    if version < VERSION:
        raise ConfigurationError(
            f"{path} has schema {version} of an older otel_orders, and this one has {VERSION}: start a ledger of this"
            " version with it first, or use the older one's command"
        )


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring the file forward to this version, inside the caller's transaction: others may try at the same time."""
    for statements in MIGRATIONS[check(connection, path) :]:
        for statement in statements:
            connection.execute(statement)
