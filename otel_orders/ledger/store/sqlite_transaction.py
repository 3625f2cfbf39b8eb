"""What is done inside one transaction of a SQLite file.  Knows rows and totals, not what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from otel_orders.ledger.model import NEVER
from otel_orders.ledger.store.protocol import Found

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from otel_orders.ledger.store.protocol import MessageNote, Row, Seen
    from otel_orders.ledger.totals import Series

FOUND_AT_ONCE = 500
"""Orders in one query: SQLite bounds the parameters of a statement."""

_encode = msgspec.json.Encoder().encode


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

    def forget_settled(self, queue: str, before: int) -> None:
        """Forget what was settled in *queue* before *before* (unix ns), whatever still waits there."""
        self._connection.execute("DELETE FROM messages WHERE queue = ? AND settled_at < ?", (queue, before))

    def forget_elsewhere(self, queues: Collection[str], before: int) -> None:
        """Forget what was published, or settled, before *before* (unix ns) in no queue of *queues*."""
        gone = (
            "DELETE FROM messages WHERE queue NOT IN (SELECT value FROM json_each(?))"
            " AND (published_at < ? OR settled_at < ?)"
        )
        self._connection.execute(gone, (_encode(list(queues)).decode(), before, before))

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

    def swept(self, now: int) -> None:
        """Do nothing: it would be a write to disk every second."""


def _found(rows: Iterable[tuple[str, int, bytes, int | None]]) -> dict[str, Found]:
    return {order_id: Found(place, state, NEVER if due is None else due) for order_id, place, state, due in rows}


def _or_null(due_at: int) -> int | None:
    return None if due_at == NEVER else due_at
