"""The shared store: a PostgreSQL database that several replicas write at once.

A commit is on disk before it returns.  Knows rows and totals, not what they mean.
"""

from __future__ import annotations

import copy
import json
import random
import threading
import uuid
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.pq import TransactionStatus

from otel_orders.errors import StoreUnavailableError
from otel_orders.ledger.model import NEVER
from otel_orders.ledger.store import Access, Message, MessageNote, Row, Seen, Waiting
from otel_orders.ledger.store.postgres_link import Address, Link
from otel_orders.ledger.store.postgres_schema import SCHEMA, check, check_present, migrate
from otel_orders.ledger.store.postgres_transaction import SWEEPER, PostgresTransaction, of_database, to_database

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_orders.ledger.store.postgres_link import Connection
    from otel_orders.ledger.totals import Series

SLOTS: Final = 64
"""Replicas that add to totals without waiting for each other; further ones share a slot."""
# A batch's ids lead to their rows by index, one by one; a hash or a merge join would read the whole table.
WRITER: Final = (
    *(f"SET enable_{way} TO off" for way in ("hashjoin", "mergejoin", "seqscan", "bitmapscan")),
    "SET plan_cache_mode TO force_generic_plan",
)
CLAIM: Final = (
    "SELECT slot FROM generate_series(0, %s) AS slot"
    " WHERE pg_try_advisory_lock(('totals'::regclass::oid::bigint << 16) | slot) LIMIT 1"
)
BEGIN: Final = "BEGIN; SELECT version FROM schema_version"
OLDEST: Final = (
    "SELECT stage, (SELECT min(waiting_since) FROM orders WHERE orders.stage = stages.stage)"
    " FROM generate_series(0, %b::integer - 1) AS stages(stage)"
)
ROWS: Final = (
    "SELECT order_id, stage, waiting_since, due_at, state FROM orders WHERE order_id > %b ORDER BY order_id LIMIT %b"
)
WAITING: Final = (
    "SELECT order_id, waiting_since, state FROM orders WHERE stage = %b AND waiting_since >= %b"
    " ORDER BY waiting_since LIMIT %b"
)
MESSAGES: Final = (
    "SELECT queue, message_id, order_id, published_at, settled_at FROM messages"
    " WHERE (queue, message_id) > (%b, %b) ORDER BY queue, message_id LIMIT %b"
)
# Leaps from queue to queue, rather than reading all that waits.
OLDEST_MESSAGES: Final = (
    "WITH RECURSIVE queues AS ("
    "  SELECT min(queue) AS queue FROM messages WHERE settled_at IS NULL UNION ALL"
    "  SELECT (SELECT min(queue) FROM messages WHERE settled_at IS NULL AND messages.queue > queues.queue)"
    "  FROM queues WHERE queues.queue IS NOT NULL"
    ") SELECT first.* FROM queues CROSS JOIN LATERAL (SELECT queue, message_id, order_id, published_at FROM messages"
    " WHERE settled_at IS NULL AND messages.queue = queues.queue ORDER BY published_at LIMIT 1) AS first"
)


class PostgresStore:
    """A store in the database at *url*, in the schema ``otel_orders``.

    Raises StoreUnavailableError when it does not answer, StoreVersionError when a newer otel_orders made it,
    ConfigurationError for an URL that cannot be one and, where *access* makes no store, when there is none.
    """

    def __init__(self, url: str, access: Access = Access.RUN) -> None:
        self._access = access
        # Of several hosts, the primary: what is read is read there too, so that all replicas show the same.
        self._address = Address(url, "--store", target_session_attrs="read-write")
        self._holder = uuid.uuid4().hex
        self._slot = 0
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        self._writer = Link(self._address, self._prepare)
        self._reader = Link(self._address, self._check)
        try:
            if access is not Access.READ:
                with self.transaction():
                    pass
            self._read("SELECT 1")
        except BaseException:
            self.close()
            raise

    def _prepare(self, connection: Connection) -> None:
        shown = f"the store {self._address.shown}"
        (migrate if self._access is Access.RUN else check_present)(connection, shown)
        for statement in WRITER:
            connection.execute(statement)
        free = connection.execute(CLAIM, (SLOTS - 1,)).fetchone()
        self._slot = free[0] if free else random.randrange(SLOTS)  # noqa: S311 - no secret

    def _check(self, connection: Connection) -> None:
        if self._access is Access.READ:
            check_present(connection, f"the store {self._address.shown}")
            connection.execute("SET default_transaction_read_only TO on")
        check(connection.execute("SELECT version FROM schema_version").fetchone()[0], self._address.shown)  # type: ignore[index]

    @contextmanager
    def transaction(self) -> Iterator[PostgresTransaction]:
        """Give a write transaction; commits durably at the normal end.

        Raises StoreConflictError where another replica came first.
        """
        with self._writing, self._answering():
            begun = self._writer.first(BEGIN)
            connection = begun.connection
            try:
                begun.nextset()
                check(begun.fetchone()[0], f"the store {self._address.shown}")  # type: ignore[index]
                yield PostgresTransaction(connection, self._slot, self._holder)
                self._commit(connection)
            except BaseException:
                self._roll_back(connection)
                raise

    def _commit(self, connection: Connection) -> None:
        if connection.execute("COMMIT").statusmessage != "COMMIT":  # it was rolled back, since a statement had failed
            raise StoreUnavailableError(f"the store {self._address.shown} cannot be used: nothing was kept")

    def _roll_back(self, connection: Connection) -> None:
        with suppress(psycopg.Error):
            if connection.info.transaction_status != TransactionStatus.IDLE:
                connection.execute("ROLLBACK")
        if connection.info.transaction_status != TransactionStatus.IDLE:
            self._writer.drop()

    def _read(self, statement: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        with self._reading, self._answering():
            return self._reader.first(statement, parameters).fetchall()

    def state(self, order_id: str) -> bytes | None:
        """Return the packed state of one order."""
        found = self._read("SELECT state FROM orders WHERE order_id = %b", (to_database(order_id),))
        return found[0][0] if found else None

    def all_ids(self, batch: int) -> Iterator[list[str]]:
        """Yield the ids of all orders, sorted, in lists of at most *batch*."""
        statement, last = "SELECT order_id FROM orders WHERE order_id > %b ORDER BY order_id LIMIT %b", ""
        while rows := self._read(statement, (last, batch)):
            yield [of_database(order_id) for (order_id,) in rows]
            last = rows[-1][0]

    def scan(self, batch: int) -> Iterator[list[tuple[str, bytes]]]:
        """Yield (order_id, packed state) of all orders by id, in lists of at most *batch*, blocking no writer."""
        statement, last = "SELECT order_id, state FROM orders WHERE order_id > %b ORDER BY order_id LIMIT %b", ""
        while rows := self._read(statement, (last, batch)):
            yield [(of_database(order_id), state) for order_id, state in rows]
            last = rows[-1][0]

    def rows(self, batch: int) -> Iterator[list[Row]]:
        """Yield all orders by id as create() takes them, in lists of at most *batch*, blocking no writer."""
        last = ""
        while rows := self._read(ROWS, (last, batch)):
            yield [
                Row(of_database(order_id), None, stage, since, NEVER if due is None else due, state)
                for order_id, stage, since, due, state in rows
            ]
            last = rows[-1][0]

    def messages(self, batch: int) -> Iterator[list[Message]]:
        """Yield all messages that are known, in lists of at most *batch*, blocking no writer."""
        last = ("", "")
        while rows := self._read(MESSAGES, (*last, batch)):
            yield [
                Message(of_database(queue), of_database(one), of_database(order_id), published_at, settled_at)
                for queue, one, order_id, published_at, settled_at in rows
            ]
            last = rows[-1][:2]

    @contextmanager
    def snapshot(self) -> Iterator[PostgresStore]:
        """Give a view of the store that stays as it is now."""
        view = copy.copy(self)
        with closing(Link(self._address, self._stand_still)) as reader:
            reader.first("SELECT 1")  # the first one starts it
            view._reader, view._reading = reader, threading.Lock()  # noqa: SLF001 - it is one of us
            yield view

    def _stand_still(self, connection: Connection) -> None:
        self._check(connection)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def totals(self) -> dict[Series, int]:
        """Return all totals: of all replicas, there are and were."""
        return _by_series(self._read("SELECT series, sum(value)::bigint FROM totals GROUP BY series"))

    def moments(self) -> dict[Series, int]:
        """Return all that advance() kept, unix ns."""
        return _by_series(self._read("SELECT series, at FROM moments"))

    def oldest_messages(self) -> dict[str, MessageNote]:
        """Return, by queue, the message that waits longest."""
        rows = self._read(OLDEST_MESSAGES)
        return {
            of_database(queue): MessageNote(of_database(queue), of_database(one), of_database(order), at)
            for queue, one, order, at in rows
        }

    def oldest(self, stages: int) -> dict[int, int]:
        """Return when the first of the orders that wait at each rank below *stages* came there (unix ns)."""
        return {stage: since for stage, since in self._read(OLDEST, (stages,)) if since is not None}

    def longest_waiting(self, stage: int, limit: int, since: int = 0) -> list[Waiting]:
        """Return the orders that wait longest at rank *stage*, of those that came there from *since* (unix ns) on."""
        rows = self._read(WAITING, (stage, since, limit))
        return [Waiting(of_database(order_id), came, state) for order_id, came, state in rows]

    def seen(self) -> list[Seen]:
        """Return the last signs of life of all instances."""
        rows = self._read("SELECT service, instance, role, at, lifecycle_hash FROM seen")
        return [
            Seen(of_database(name), of_database(one), of_database(role), at, of_database(known))
            for name, one, role, at, known in rows
        ]

    def get(self, key: str) -> str | None:
        """Return what put() kept under *key*."""
        found = self._read("SELECT value FROM meta WHERE key = %b", (to_database(key),))
        return of_database(found[0][0]) if found else None

    def items(self, prefix: str) -> dict[str, str]:
        """Return all that put() kept under keys that start with *prefix*, by key in order."""
        statement = "SELECT key, value FROM meta WHERE starts_with(key, %b) ORDER BY key"
        return {of_database(key): of_database(value) for key, value in self._read(statement, (to_database(prefix),))}

    def swept_elsewhere(self) -> int | None:
        """Return when another replica that still sweeps last did (unix ns), None where it is ours to do."""
        statement = "SELECT at FROM leases WHERE name = %b AND holder <> %b AND until > clock_timestamp()"
        found = self._read(statement, (SWEEPER, self._holder))
        return found[0][0] if found else None

    def empty_log(self) -> None:
        """Do nothing: the log is the server's, and so is what it keeps of deleted rows until a VACUUM FULL."""

    def size(self) -> int:
        """Return the size of all tables and their indexes in bytes."""
        statement = (
            "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = %b::regnamespace"
        )
        size: int = self._read(statement, (SCHEMA,))[0][0]
        return size

    def close(self) -> None:
        """Let go of the database."""
        with self._writing, self._reading:
            self._writer.close()
            self._reader.close()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn PostgreSQL's errors into ours."""
        try:
            yield
        except psycopg.Error as error:
            told = self._address.told(error)
            if told is error:
                raise
            raise told from error


def _by_series(rows: Iterable[tuple[str, int]]) -> dict[Series, int]:
    return {tuple(json.loads(series)): value for series, value in rows}
