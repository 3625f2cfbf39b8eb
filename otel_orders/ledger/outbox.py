"""Follow an application's outbox table (otel_orders.outbox) in its SQLite file into the ledger.

Reads only.  How far it was read is kept in the transaction that keeps the events, so a crash neither loses nor doubles
a row.  SQLite has one writer at a time, so rows become visible in the order of their ids.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from otel_orders.ledger import ingest
from otel_orders.ledger.polling import Poller

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_orders.ledger.reading import Reading
    from otel_orders.ledger.store import Store
    from otel_orders.ledger.writer import Writer

AT_ONCE: Final = 1_000
"""Rows that are read at once."""
ROWS: Final = "SELECT id, event FROM otel_orders_outbox WHERE id > ? ORDER BY id LIMIT ?"


class OutboxFollower:
    """Follows the table in the SQLite file *path*; neither need exist yet."""

    def __init__(self, path: str, store: Store, writer: Writer, new_reading: Callable[[], Reading]) -> None:
        self._path = os.path.abspath(path)  # noqa: PTH100 - a name for messages and keys
        self._key = f"outbox:{self._path}"
        self._store = store
        self._writer = writer
        self._new_reading = new_reading
        self._last = 0
        self.poller = Poller(f"the outbox in {path}", self._look)

    def close(self) -> None:
        """Stop after the rows that are being read."""
        self.poller.close()

    def _look(self) -> None:
        if not os.path.exists(self._path):  # noqa: PTH110 - the application has not made it yet
            return
        with closing(sqlite3.connect(f"file:{quote(self._path)}?mode=ro", uri=True)) as connection:
            connection.text_factory = bytes  # also of what is no UTF-8
            while not self.poller.closing and self._read(connection):
                pass

    def _read(self, connection: sqlite3.Connection) -> bool:
        """Read the next rows; return whether there may be more."""
        # Another replica that follows the same table may have come further.
        self._last = max(self._last, int(self._store.get(self._key) or 0))
        try:
            rows = connection.execute(ROWS, (self._last, AT_ONCE)).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return False
            raise
        if not rows:
            return False
        reading, (last, _) = self._new_reading(), rows[-1]
        for _, event in rows:  # SQLite keeps anything in any column, and one row must not stop those behind it
            ingest.lines(event if isinstance(event, bytes) else str(event).encode(), reading)
        self._writer.submit(reading, {self._key: str(last)}).result()
        self._last = last
        return len(rows) == AT_ONCE
