"""What is done inside one transaction in PostgreSQL.

It locks orders in the order of their ids, and what is shared beyond orders only at its end, sorted too, so transactions
never wait for each other in a circle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from otel_orders.errors import StoreConflictError
from otel_orders.ledger.model import NEVER
from otel_orders.ledger.store import Found, MessageNote, Row, Seen

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import psycopg

    from otel_orders.ledger.store.postgres_link import Connection
    from otel_orders.ledger.totals import Series

SWEEPER: Final = "sweeper"
LEASE: Final = 4.0
"""Seconds.  A sweep comes every second; when none came for so long, another replica takes over."""

FIND: Final = (
    "SELECT orders.order_id, orders.state, orders.due_at FROM unnest(%b::text[]) AS wanted(order_id)"
    " JOIN orders ON orders.order_id = wanted.order_id ORDER BY orders.order_id FOR UPDATE OF orders"
)
DUE: Final = (
    "SELECT order_id, state, due_at FROM orders WHERE due_at <= %b ORDER BY due_at LIMIT %b FOR UPDATE SKIP LOCKED"
)
CREATE: Final = (
    "INSERT INTO orders (order_id, stage, waiting_since, due_at, state)"
    " SELECT * FROM unnest(%b::text[], %b::integer[], %b::bigint[], %b::bigint[], %b::bytea[])"
    " ON CONFLICT (order_id) DO NOTHING"
)
CHANGE: Final = (
    "UPDATE orders SET stage = new.stage, waiting_since = new.waiting_since, state = new.state"
    " FROM unnest(%b::text[], %b::integer[], %b::bigint[], %b::bytea[]) AS new(order_id, stage, waiting_since, state)"
    " WHERE orders.order_id = new.order_id"
)
RESCHEDULE: Final = (
    "UPDATE orders SET stage = new.stage, waiting_since = new.waiting_since, due_at = new.due_at, state = new.state"
    " FROM unnest(%b::text[], %b::integer[], %b::bigint[], %b::bigint[], %b::bytea[])"
    " AS new(order_id, stage, waiting_since, due_at, state) WHERE orders.order_id = new.order_id"
)
ADD: Final = (
    "INSERT INTO totals (slot, series, value) SELECT %b::integer, * FROM unnest(%b::text[], %b::bigint[])"
    " ON CONFLICT (slot, series) DO UPDATE SET value = totals.value + excluded.value"
)

_encode = msgspec.json.Encoder().encode


class PostgresTransaction:
    """What is done inside one transaction."""

    def __init__(self, connection: Connection, slot: int, holder: str) -> None:
        self._connection = connection
        self._slot = slot
        self._holder = holder

    def _execute(self, statement: str, *parameters: Any) -> psycopg.Cursor[Any]:
        return self._connection.cursor(binary=True).execute(statement, parameters)

    def find(self, order_ids: Sequence[str]) -> dict[str, Found]:
        """Return the row of each of *order_ids* that exists, locked until the end of the transaction."""
        return _found(self._execute(FIND, [to_database(order_id) for order_id in order_ids]))

    def due(self, now: int, limit: int) -> dict[str, Found]:
        """Return at most *limit* rows of orders whose due_at is at or before *now* (unix ns), soonest first, locked.

        What another replica has locked is left to it.
        """
        return _found(self._execute(DUE, now, limit))

    def alone(self) -> None:
        """Wait for others that write orders, and keep them out until the end; they may read."""
        self._execute("SET LOCAL lock_timeout TO 0")
        self._execute("LOCK TABLE orders IN EXCLUSIVE MODE")

    def create(self, rows: Sequence[Row]) -> None:
        """Write rows of new orders.  Raises StoreConflictError where another replica made one since find()."""
        if not rows:
            return
        ids, stages, since, due, states = _columns(rows)
        if self._execute(CREATE, ids, stages, since, due, states).rowcount != len(rows):
            raise StoreConflictError("another replica has just made one of these orders")

    def change(self, rows: Sequence[Row]) -> None:
        """Write new contents of existing rows, due_at excepted."""
        if rows:
            ids, stages, since, _, states = _columns(rows)
            self._execute(CHANGE, ids, stages, since, states)

    def reschedule(self, rows: Sequence[Row]) -> None:
        """Write new contents of existing rows, due_at included."""
        if rows:
            self._execute(RESCHEDULE, *_columns(rows))

    def delete(self, rows: Sequence[Found]) -> None:
        """Forget orders."""
        self._execute("DELETE FROM orders WHERE order_id = ANY(%b::text[])", [row.place for row in rows])

    def add(self, changes: Mapping[Series, int]) -> None:
        """Change totals."""
        rows = sorted((_encode(series).decode(), value) for series, value in changes.items() if value)
        if rows:
            self._execute(ADD, self._slot, [series for series, _ in rows], [value for _, value in rows])

    def advance(self, moments: Mapping[Series, int]) -> dict[Series, int]:
        """Keep for each series the latest of the moments (unix ns) it was ever given; return those kept before."""
        by_key = {_encode(series).decode(): series for series in moments}
        keys = sorted(by_key)
        self._execute(
            "INSERT INTO moments (series) SELECT * FROM unnest(%b::text[]) ON CONFLICT (series) DO NOTHING", keys
        )
        statement = "SELECT series, at FROM moments WHERE series = ANY(%b::text[]) ORDER BY series FOR UPDATE"
        before = self._execute(statement, keys).fetchall()
        self._execute(
            "UPDATE moments SET at = greatest(moments.at, new.at) FROM unnest(%b::text[], %b::bigint[])"
            " AS new(series, at) WHERE moments.series = new.series",
            keys,
            [moments[by_key[key]] for key in keys],
        )
        return {by_key[key]: at for key, at in before if at is not None}

    def published(self, notes: Sequence[MessageNote]) -> None:
        """Note messages that wait in their queues; one that was settled before it was noted is not kept waiting."""
        self._note(notes, "published_at")

    def settled(self, notes: Sequence[MessageNote]) -> None:
        """Note messages that wait no more, also those whose publishing is not known yet."""
        self._note(notes, "settled_at")

    def _note(self, notes: Sequence[MessageNote], column: str) -> None:
        last = {(to_database(note.queue), to_database(note.message_id)): note for note in notes}
        keys = sorted(last)
        if keys:
            self._execute(
                f"INSERT INTO messages (queue, message_id, order_id, {column})"  # noqa: S608 - one of two columns
                " SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::bigint[])"
                f" ON CONFLICT (queue, message_id) DO UPDATE SET {column} = excluded.{column}",
                *([key[place] for key in keys] for place in (0, 1)),
                [to_database(last[key].order_id) for key in keys],
                [last[key].at for key in keys],
            )

    def forget_messages(self, queue: str, before: int) -> int:
        """Forget what was published in *queue*, or settled, before *before* (unix ns); return how many waited."""
        gone = self._execute(
            "WITH gone AS (DELETE FROM messages WHERE queue = %b AND (published_at < %b OR settled_at < %b)"
            " RETURNING published_at, settled_at) SELECT count(*) FROM gone WHERE settled_at IS NULL",
            to_database(queue),
            before,
            before,
        ).fetchone()
        return gone[0] if gone else 0

    def forget_settled(self, queue: str, before: int) -> None:
        """Forget what was settled in *queue* before *before* (unix ns), whatever still waits there."""
        self._execute("DELETE FROM messages WHERE queue = %b AND settled_at < %b", to_database(queue), before)

    def disown(self, order_ids: Sequence[str]) -> None:
        """Forget which orders the messages of *order_ids* belong to."""
        ids = sorted(map(to_database, order_ids))
        self._execute("UPDATE messages SET order_id = '' WHERE order_id = ANY(%b::text[])", ids)

    def forget_elsewhere(self, queues: Collection[str], before: int) -> None:
        """Forget what was published, or settled, before *before* (unix ns) in no queue of *queues*."""
        gone = "DELETE FROM messages WHERE queue <> ALL (%b::text[]) AND (published_at < %b OR settled_at < %b)"
        self._execute(gone, [to_database(queue) for queue in queues], before, before)

    def see(self, seen: Iterable[Seen]) -> None:
        """Note signs of life; an older one never replaces a newer one."""
        newest: dict[tuple[str, ...], Seen] = {}
        for one in seen:
            key = (to_database(one.service), to_database(one.instance), to_database(one.role))
            if key not in newest or one.at > newest[key].at:
                newest[key] = one
        keys = sorted(newest)
        if keys:
            self._execute(
                "INSERT INTO seen (service, instance, role, at, lifecycle_hash)"
                " SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::bigint[], %b::text[])"
                " ON CONFLICT (service, instance, role) DO UPDATE SET at = excluded.at,"
                " lifecycle_hash = excluded.lifecycle_hash WHERE excluded.at > seen.at",
                *([key[place] for key in keys] for place in range(3)),
                [newest[key].at for key in keys],
                [to_database(newest[key].lifecycle_hash) for key in keys],
            )

    def forget_instances(self, before: int) -> None:
        """Forget signs of life before *before* (unix ns), those of services as a whole excepted."""
        self._execute("DELETE FROM seen WHERE at < %b AND instance <> ''", before)

    def get(self, key: str) -> str | None:
        """Return what put() kept under *key*."""
        found = self._execute("SELECT value FROM meta WHERE key = %b", to_database(key)).fetchone()
        return of_database(found[0]) if found else None

    def put(self, key: str, value: str) -> None:
        """Keep *value* under *key*."""
        statement = (
            "INSERT INTO meta (key, value) VALUES (%b, %b) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        )
        self._execute(statement, to_database(key), to_database(value))

    def swept(self, now: int) -> None:
        """Note that timers were looked at up to *now* (unix ns), and that this replica is the one that does it."""
        self._execute(
            "INSERT INTO leases (name, holder, until, at)"
            " VALUES (%b, %b, clock_timestamp() + %b * interval '1 second', %b) ON CONFLICT (name)"
            " DO UPDATE SET holder = excluded.holder, until = excluded.until, at = excluded.at",
            SWEEPER,
            self._holder,
            LEASE,
            now,
        )


def _columns(rows: Sequence[Row]) -> tuple[list[Any], ...]:
    return (
        [to_database(row.order_id) for row in rows],
        [row.stage for row in rows],
        [row.waiting_since for row in rows],
        [None if row.due_at == NEVER else row.due_at for row in rows],
        [row.state for row in rows],
    )


def _found(rows: Iterable[tuple[str, bytes, int | None]]) -> dict[str, Found]:
    return {of_database(place): Found(place, state, NEVER if due is None else due) for place, state, due in rows}


def to_database(text: str) -> str:
    """Return *text* as PostgreSQL can hold it: its text has no NUL.  Keeps texts apart and in order."""
    return text.replace("\1", "\1\2").replace("\0", "\1\1") if "\0" in text or "\1" in text else text


def of_database(text: str) -> str:
    """Return the text that to_database() made *text* of."""
    return text.replace("\1\1", "\0").replace("\1\2", "\1") if "\1" in text else text
