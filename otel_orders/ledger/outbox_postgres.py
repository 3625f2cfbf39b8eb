"""Follow an application's outbox table (otel_orders.outbox) in its PostgreSQL database into the ledger.

Reads only.  How far it was read is kept in the transaction that keeps the events, so a crash neither loses nor doubles
a row.  Transactions become visible in another order than that of their rows' ids: gaps.py knows what is still missing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psycopg

from otel_orders.errors import ConfigurationError
from otel_orders.ledger import ingest
from otel_orders.ledger.gaps import Reached, Snapshot, after, furthest
from otel_orders.ledger.polling import Poller
from otel_orders.ledger.store.postgres_link import Address

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_orders.ledger.reading import Reading
    from otel_orders.ledger.store import Store
    from otel_orders.ledger.store.postgres_link import Connection
    from otel_orders.ledger.writer import Writer

AT_ONCE: Final = 1_000
"""Rows that are read at once."""
TABLE: Final = "SELECT to_regclass('otel_orders_outbox') IS NOT NULL"
CACHE: Final = (
    "SELECT coalesce(max(seqcache), 1) FROM pg_sequence"
    " WHERE seqrelid = pg_get_serial_sequence('otel_orders_outbox', 'id')::regclass"
)
SNAPSHOT: Final = (
    "SELECT pg_snapshot_xmin(seen)::text::bigint, pg_snapshot_xmax(seen)::text::bigint"
    " FROM (SELECT pg_current_snapshot() AS seen) AS now"
)
LATE: Final = (
    "SELECT id, event FROM unnest(%s::bigint[], %s::bigint[]) AS gap(first, last)"
    " JOIN otel_orders_outbox ON id BETWEEN gap.first AND gap.last ORDER BY id LIMIT %s"
)
NEW: Final = "SELECT id, event FROM otel_orders_outbox WHERE id > %s ORDER BY id LIMIT %s"

Rows = list[tuple[int, str]]


class PostgresOutboxFollower:
    """Follows the table in the database at *url*; neither need exist yet."""

    def __init__(self, url: str, store: Store, writer: Writer, new_reading: Callable[[], Reading]) -> None:
        self._address = Address(url, "--follow")
        self._key = f"outbox:{self._address.shown}"
        self._writer = writer
        self._new_reading = new_reading
        self._store = store
        self._reached = Reached()
        self._connection: Connection | None = None
        self.poller = Poller(f"the outbox in {self._address.shown}", self._look)

    def close(self) -> None:
        """Stop after the rows that are being read."""
        self.poller.close()
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _look(self) -> None:
        try:
            if self._connection is None:
                self._connection = self._address.connect()
                self._connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                self._connection.read_only = True
            while not self.poller.closing and self._read(self._connection):
                pass
        except psycopg.Error:
            self._disconnect()
            raise

    def _read(self, connection: Connection) -> bool:
        """Read the next rows; return whether there may be more."""
        self._catch_up()
        with connection.transaction():  # all of it is seen at one moment
            if not _first(connection, TABLE)[0]:
                return False
            _insist_on_no_cache(connection)
            snapshot = Snapshot(*_first(connection, SNAPSHOT))
            gaps = self._reached.gaps
            ends = ([gap.first for gap in gaps], [gap.last for gap in gaps])
            late: Rows = connection.execute(LATE, (*ends, AT_ONCE)).fetchall() if gaps else []
            # As long as there is more in the gaps, nothing is said about them.
            more_late = len(late) == AT_ONCE
            new: Rows = [] if more_late else connection.execute(NEW, (self._reached.last, AT_ONCE)).fetchall()
        seen = Snapshot(0, snapshot.next) if more_late else snapshot
        self._keep(late, new, seen)
        return more_late or len(new) == AT_ONCE

    def _catch_up(self) -> None:
        """Go on from where this follower, before a restart, or that of another replica has come."""
        if kept := self._store.get(self._key):
            self._reached = furthest(self._reached, msgspec.json.decode(kept, type=Reached), time.monotonic())

    def _keep(self, late: Rows, new: Rows, snapshot: Snapshot) -> None:
        ids = ([row[0] for row in late], [row[0] for row in new])
        reached = after(self._reached, *ids, snapshot, time.monotonic())
        if late or new:
            reading = self._new_reading()
            for _, event in (*late, *new):
                ingest.lines(event.encode(), reading)
            self._writer.submit(reading, {self._key: msgspec.json.encode(reached).decode()}).result()
        self._reached = reached


def _insist_on_no_cache(connection: Connection) -> None:
    """Refuse a sequence of which sessions take ids to use them later, at any time: none could ever be given up."""
    if _first(connection, CACHE)[0] > 1:
        raise ConfigurationError(
            "ids of otel_orders_outbox are cached by sessions; ALTER TABLE otel_orders_outbox ALTER id SET CACHE 1"
        )


def _first(connection: Connection, statement: str) -> Any:
    return connection.execute(statement).fetchone()
