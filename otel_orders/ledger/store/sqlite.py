"""The embedded store: one SQLite file in WAL mode, one writer, readers beside it.

A commit is on disk before it returns (synchronous=FULL).  Knows rows and totals, not what they mean.
"""

from __future__ import annotations

import copy
import os
import sqlite3
import threading
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from otel_orders.errors import StoreUnavailableError
from otel_orders.ledger.model import NEVER
from otel_orders.ledger.store import Access, Message, MessageNote, Row, Seen, Waiting
from otel_orders.ledger.store.sqlite_file import connect
from otel_orders.ledger.store.sqlite_schema import migrate
from otel_orders.ledger.store.sqlite_transaction import SqliteTransaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from otel_orders.ledger.totals import Series

REASONS = {
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_READONLY: "read_only",
}
"""What SQLite's primary result codes are called in metrics, where they have names of their own."""

_decode = msgspec.json.Decoder(tuple[str | int, ...]).decode


class SqliteStore:
    """A store in the file *path*.

    Raises StoreUnavailableError when the file cannot be used, StoreVersionError when a newer otel_orders made it,
    ConfigurationError when it is no ledger's store or, where *access* makes none, none of this version.
    """

    def __init__(self, path: str, access: Access = Access.RUN) -> None:
        self._path = path
        self._access = access
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        with ExitStack() as opened:
            self._writer = opened.enter_context(closing(self._connect()))
            self._file = _identity(path)
            if access is Access.RUN:
                self._migrate()
            self._reader = opened.enter_context(closing(self._connect()))
            self._read("PRAGMA query_only = ON")
            self._opened = opened.pop_all()

    def _connect(self) -> sqlite3.Connection:
        with self._answering():
            return connect(self._path, self._access)

    def _migrate(self) -> None:
        with self.transaction():  # looked at inside: another process may make the schema at the same time
            migrate(self._writer, self._path)

    @contextmanager
    def transaction(self) -> Iterator[SqliteTransaction]:
        """Give the one write transaction; commits durably at the normal end."""
        with self._writing, self._answering():
            self._check_file()
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield SqliteTransaction(self._writer)
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def _check_file(self) -> None:
        """SQLite goes on writing a file that was deleted or replaced, and nobody would ever find it again."""
        if _identity(self._path) != self._file:
            raise StoreUnavailableError(
                f"the store {self._path} was moved or deleted while it was in use: put it back, or start anew",
                "gone",
            )

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
        """Turn SQLite's errors into ours (locked, disk full, read-only), except those about what was to be written."""
        try:
            yield
        except sqlite3.DataError:
            raise
        except sqlite3.Error as error:
            reason = REASONS.get((getattr(error, "sqlite_errorcode", None) or 0) & 0xFF)
            raise StoreUnavailableError(f"the store {self._path} cannot be used: {error}", reason) from error


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells the file at *path* from any other, None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - asked in each transaction
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _by_series(rows: Iterable[tuple[str, int]]) -> dict[Series, int]:
    return {_decode(series): value for series, value in rows}
