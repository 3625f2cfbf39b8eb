"""The embedded store: one SQLite file in WAL mode, one writer, readers beside it.

A commit is on disk before it returns (synchronous=FULL).  Knows rows and totals, not what they mean.
"""

from __future__ import annotations

import copy
import sqlite3
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from otel_orders.errors import StoreUnavailableError, StoreVersionError
from otel_orders.ledger.model import NEVER
from otel_orders.ledger.store import Message, MessageNote, Row, Seen, Waiting
from otel_orders.ledger.store.sqlite_transaction import SqliteTransaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from otel_orders.ledger.totals import Series

VERSION = 2

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

# Orders come in random order, so a commit costs the pages it touches: a small page is copied and checked for less.
# With pages of 1,024 bytes ingest costs half of what it does with 4,096 (README, "Measured").
PRAGMAS = (
    "PRAGMA page_size = 1024",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA cache_size = -65536",
    "PRAGMA mmap_size = 268435456",
    "PRAGMA wal_autocheckpoint = 64000",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA secure_delete = ON",  # what was erased must not be found in the file
)

BUSY = 5.0
"""Seconds that a write waits for that of another process."""

_decode = msgspec.json.Decoder(tuple[str | int, ...]).decode


class SqliteStore:
    """A store in the file *path*.

    Raises StoreUnavailableError when the file cannot be used, StoreVersionError when a newer otel_orders made it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        with ExitStack() as opened:
            self._writer = opened.enter_context(closing(self._connect()))
            self._migrate()
            self._reader = opened.enter_context(closing(self._connect()))
            self._read("PRAGMA query_only = ON")
            self._opened = opened.pop_all()

    def _connect(self) -> sqlite3.Connection:
        with self._answering(), ExitStack() as opened:
            connection = sqlite3.connect(
                self._path, timeout=BUSY, check_same_thread=False, isolation_level=None, cached_statements=256
            )
            opened.enter_context(closing(connection))
            self._check(connection)
            for pragma in PRAGMAS:
                _insist(connection, pragma)
            opened.pop_all()
        return connection

    def _check(self, connection: sqlite3.Connection) -> int:
        """Return the version of the schema, 0 for an empty file."""
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise StoreVersionError(
                f"{self._path} has schema {version}, written by a newer otel_orders; this one knows up to {VERSION}:"
                " upgrade otel_orders, or give it another file"
            )
        return version

    def _migrate(self) -> None:
        with self.transaction():  # looked at inside: another process may make the schema at the same time
            for statements in MIGRATIONS[self._check(self._writer) :]:
                for statement in statements:
                    self._writer.execute(statement)

    @contextmanager
    def transaction(self) -> Iterator[SqliteTransaction]:
        """Give the one write transaction; commits durably at the normal end."""
        with self._writing, self._answering():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield SqliteTransaction(self._writer)
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def _read(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        with self._reading, self._answering():
            return self._reader.execute(statement, parameters).fetchall()

    def state(self, order_id: str) -> bytes | None:
        """Return the packed state of one order."""
        found = self._read("SELECT state FROM orders WHERE order_id = ?", (order_id,))
        return found[0][0] if found else None

    def all_ids(self, batch: int) -> Iterator[list[str]]:
        """Yield the ids of all orders, sorted, in lists of at most *batch*."""
        statement, last = "SELECT order_id FROM orders WHERE order_id > ? ORDER BY order_id LIMIT ?", ""
        while rows := self._read(statement, (last, batch)):
            yield [order_id for (order_id,) in rows]
            last = rows[-1][0]

    def scan(self, batch: int) -> Iterator[list[tuple[str, bytes]]]:
        """Yield (order_id, packed state) of all orders by id, in lists of at most *batch*, blocking no writer."""
        statement, last = "SELECT order_id, state FROM orders WHERE order_id > ? ORDER BY order_id LIMIT ?", ""
        while rows := self._read(statement, (last, batch)):
            yield rows
            last = rows[-1][0]

    def rows(self, batch: int) -> Iterator[list[Row]]:
        """Yield all orders by id as create() takes them, in lists of at most *batch*, blocking no writer."""
        columns = "order_id, NULL, stage, waiting_since, due_at, state"
        statement, last = f"SELECT {columns} FROM orders WHERE order_id > ? ORDER BY order_id LIMIT ?", ""  # noqa: S608 - a constant
        while rows := [Row(*row) for row in self._read(statement, (last, batch))]:
            yield [row._replace(due_at=NEVER) if row.due_at is None else row for row in rows]
            last = rows[-1].order_id

    def messages(self, batch: int) -> Iterator[list[Message]]:
        """Yield all messages that are known, in lists of at most *batch*, blocking no writer."""
        statement = "SELECT * FROM messages WHERE (queue, message_id) > (?, ?) ORDER BY queue, message_id LIMIT ?"
        last = ("", "")
        while rows := [Message(*row) for row in self._read(statement, (*last, batch))]:
            yield rows
            last = rows[-1][:2]

    @contextmanager
    def snapshot(self) -> Iterator[SqliteStore]:
        """Give a view of the store that stays as it is now."""
        view = copy.copy(self)
        with closing(self._connect()) as reader:
            view._reader, view._reading = reader, threading.Lock()  # noqa: SLF001 - it is one of us
            with self._answering():
                for statement in ("PRAGMA query_only = ON", "BEGIN", "SELECT 1 FROM meta"):  # the last one starts it
                    reader.execute(statement).fetchall()
            yield view

    def totals(self) -> dict[Series, int]:
        """Return all totals."""
        return _by_series(self._read("SELECT series, value FROM totals"))

    def moments(self) -> dict[Series, int]:
        """Return all that advance() kept, unix ns."""
        return _by_series(self._read("SELECT series, at FROM moments"))

    def oldest_messages(self) -> dict[str, MessageNote]:
        """Return, by queue, the message that waits longest."""
        statement = (
            "SELECT queue, message_id, order_id, published_at FROM messages"
            " WHERE settled_at IS NULL AND queue > ? ORDER BY queue, published_at LIMIT 1"
        )
        found: dict[str, MessageNote] = {}
        last = ""
        while rows := self._read(statement, (last,)):  # one step through the index for each queue
            last = rows[0][0]
            found[last] = MessageNote(*rows[0])
        return found

    def oldest(self, stages: int) -> dict[int, int]:
        """Return when the first of the orders that wait at each rank below *stages* came there (unix ns)."""
        statement = "SELECT min(waiting_since) FROM orders WHERE stage = ?"
        found = {stage: self._read(statement, (stage,))[0][0] for stage in range(stages)}
        return {stage: since for stage, since in found.items() if since is not None}

    def longest_waiting(self, stage: int, limit: int, since: int = 0) -> list[Waiting]:
        """Return the orders that wait longest at rank *stage*, of those that came there from *since* (unix ns) on."""
        statement = (
            "SELECT order_id, waiting_since, state FROM orders WHERE stage = ? AND waiting_since >= ?"
            " ORDER BY waiting_since LIMIT ?"
        )
        return [Waiting(*row) for row in self._read(statement, (stage, since, limit))]

    def seen(self) -> list[Seen]:
        """Return the last signs of life of all instances."""
        return [Seen(*row) for row in self._read("SELECT service, instance, role, at, lifecycle_hash FROM seen")]

    def get(self, key: str) -> str | None:
        """Return what put() kept under *key*."""
        found = self._read("SELECT value FROM meta WHERE key = ?", (key,))
        return found[0][0] if found else None

    def items(self, prefix: str) -> dict[str, str]:
        """Return all that put() kept under keys that start with *prefix*, by key in order."""
        statement = "SELECT key, value FROM meta WHERE substr(key, 1, ?) = ? ORDER BY key"
        return dict(self._read(statement, (len(prefix), prefix)))

    def swept_elsewhere(self) -> int | None:
        """Return None: whoever has the file sweeps."""
        return None

    def empty_log(self) -> None:
        """Fold the log into the file and cut it to nothing; while somebody reads an older moment, it stays as it is."""
        with self._writing, self._answering():
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def size(self) -> int:
        """Return the size of the file and its log in bytes."""
        files = (Path(self._path + suffix) for suffix in ("", "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        """Close the file; SQLite folds the log into it."""
        with self._writing, self._reading:
            self._opened.close()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn SQLite's errors into ours: locked, disk full, read-only, not a database."""
        try:
            yield
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"the store {self._path} cannot be used: {error}") from error


def _by_series(rows: Iterable[tuple[str, int]]) -> dict[Series, int]:
    return {_decode(series): value for series, value in rows}


def _insist(connection: sqlite3.Connection, pragma: str) -> None:
    """Execute *pragma*, again and again while another process has the file: SQLite does not wait for WAL mode."""
    give_up = time.monotonic() + BUSY
    while True:
        try:
            connection.execute(pragma).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return
