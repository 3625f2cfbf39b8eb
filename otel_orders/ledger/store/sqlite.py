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
from otel_orders.ledger.store import Found, Message, MessageNote, Row, Seen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

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
FOUND_AT_ONCE = 500
"""Orders in one query: SQLite bounds the parameters of a statement."""

_encode = msgspec.json.Encoder().encode
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

    def longest_waiting(self, stage: int, limit: int) -> list[tuple[str, int]]:
        """Return (order_id, entered_at in unix ns) of the orders that wait longest at rank *stage*."""
        statement = "SELECT order_id, waiting_since FROM orders WHERE stage = ? ORDER BY waiting_since LIMIT ?"
        return self._read(statement, (stage, limit))

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


class SqliteTransaction:
    """What is done inside one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def find(self, order_ids: Sequence[str]) -> dict[str, Found]:
        """Return the row of each of *order_ids* that exists."""
        found: dict[str, Found] = {}
        for start in range(0, len(order_ids), FOUND_AT_ONCE):
            some = order_ids[start : start + FOUND_AT_ONCE]
            marks = ",".join("?" * len(some))
            statement = f"SELECT order_id, place, state, due_at FROM orders WHERE order_id IN ({marks})"  # noqa: S608 - marks
            found |= _found(self._connection.execute(statement, some))
        return found

    def due(self, now: int, limit: int) -> dict[str, Found]:
        """Return at most *limit* rows of orders whose due_at is at or before *now* (unix ns), soonest first."""
        statement = "SELECT order_id, place, state, due_at FROM orders WHERE due_at <= ? ORDER BY due_at LIMIT ?"
        return _found(self._connection.execute(statement, (now, limit)))

    def alone(self) -> None:
        """Do nothing: a file has one writer at a time."""

    def create(self, rows: Sequence[Row]) -> None:
        """Write rows of new orders."""
        self._connection.executemany(
            "INSERT INTO orders (order_id, stage, waiting_since, due_at, state) VALUES (?, ?, ?, ?, ?)",
            [(row.order_id, row.stage, row.waiting_since, _or_null(row.due_at), row.state) for row in rows],
        )

    def change(self, rows: Sequence[Row]) -> None:
        """Write new contents of existing rows, due_at excepted."""
        self._connection.executemany(
            "UPDATE orders SET stage = ?, waiting_since = ?, state = ? WHERE place = ?",
            [(row.stage, row.waiting_since, row.state, row.place) for row in rows],
        )

    def reschedule(self, rows: Sequence[Row]) -> None:
        """Write new contents of existing rows, due_at included."""
        self._connection.executemany(
            "UPDATE orders SET stage = ?, waiting_since = ?, due_at = ?, state = ? WHERE place = ?",
            [(row.stage, row.waiting_since, _or_null(row.due_at), row.state, row.place) for row in rows],
        )

    def delete(self, rows: Sequence[Found]) -> None:
        """Forget orders."""
        self._connection.executemany("DELETE FROM orders WHERE place = ?", [(row.place,) for row in rows])

    def disown(self, order_ids: Sequence[str]) -> None:
        """Forget which orders the messages of *order_ids* belong to."""
        statement = "UPDATE messages SET order_id = '' WHERE order_id = ?"
        self._connection.executemany(statement, [(order_id,) for order_id in order_ids])

    def add(self, changes: Mapping[Series, int]) -> None:
        """Change totals."""
        self._connection.executemany(
            "INSERT INTO totals (series, value) VALUES (?, ?)"
            " ON CONFLICT (series) DO UPDATE SET value = value + excluded.value",
            ((_encode(series).decode(), value) for series, value in changes.items() if value),
        )

    def advance(self, moments: Mapping[Series, int]) -> dict[Series, int]:
        """Keep for each series the latest of the moments (unix ns) it was ever given; return those kept before."""
        before: dict[Series, int] = {}
        for series, at in moments.items():
            key = _encode(series).decode()
            found = self._connection.execute("SELECT at FROM moments WHERE series = ?", (key,)).fetchone()
            if found:
                before[series] = found[0]
            self._connection.execute(
                "INSERT INTO moments (series, at) VALUES (?, ?)"
                " ON CONFLICT (series) DO UPDATE SET at = max(at, excluded.at)",
                (key, at),
            )
        return before

    def published(self, notes: Sequence[MessageNote]) -> None:
        """Note messages that wait in their queues; one that was settled before it was noted is not kept waiting."""
        self._connection.executemany(
            "INSERT INTO messages (queue, message_id, order_id, published_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (queue, message_id) DO UPDATE SET published_at = excluded.published_at",
            notes,
        )

    def settled(self, notes: Sequence[MessageNote]) -> None:
        """Note messages that wait no more, also those whose publishing is not known yet."""
        self._connection.executemany(
            "INSERT INTO messages (queue, message_id, order_id, settled_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (queue, message_id) DO UPDATE SET settled_at = excluded.settled_at",
            notes,
        )

    def forget_messages(self, queue: str, before: int) -> int:
        """Forget what was published in *queue*, or settled, before *before* (unix ns); return how many waited."""
        waited = "SELECT count(*) FROM messages WHERE queue = ? AND published_at < ? AND settled_at IS NULL"
        count: int = self._connection.execute(waited, (queue, before)).fetchone()[0]
        gone = "DELETE FROM messages WHERE queue = ? AND (published_at < ? OR settled_at < ?)"
        self._connection.execute(gone, (queue, before, before))
        return count

    def see(self, seen: Iterable[Seen]) -> None:
        """Note signs of life; an older one never replaces a newer one."""
        self._connection.executemany(
            "INSERT INTO seen (service, instance, role, at, lifecycle_hash) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (service, instance, role) DO UPDATE SET at = excluded.at,"
            " lifecycle_hash = excluded.lifecycle_hash WHERE excluded.at > seen.at",
            seen,
        )

    def get(self, key: str) -> str | None:
        """Return what put() kept under *key*."""
        found = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return found[0] if found else None

    def forget_instances(self, before: int) -> None:
        """Forget signs of life before *before* (unix ns), those of services as a whole excepted."""
        self._connection.execute("DELETE FROM seen WHERE at < ? AND instance != ''", (before,))

    def put(self, key: str, value: str) -> None:
        """Keep *value* under *key*."""
        statement = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        self._connection.execute(statement, (key, value))

    def drop(self, key: str) -> None:
        """Forget what put() kept under *key*."""
        self._connection.execute("DELETE FROM meta WHERE key = ?", (key,))

    def swept(self, now: int) -> None:
        """Do nothing: it would be a write to disk every second."""


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


def _found(rows: Iterable[tuple[str, int, bytes, int | None]]) -> dict[str, Found]:
    return {order_id: Found(place, state, NEVER if due is None else due) for order_id, place, state, due in rows}


def _or_null(due_at: int) -> int | None:
    return None if due_at == NEVER else due_at
