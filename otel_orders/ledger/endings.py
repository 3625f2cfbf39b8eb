"""Find the orders of an event log that may be among those that were removed: they overlap in time, and do not go on.

What the log says of them is laid aside in a temporary file, so that a log of any size takes little memory.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final

from otel_orders import names
from otel_orders.ledger.removals import NOTHING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from otel_orders.ledger.removals import Removals

_TABLES: Final = """
CREATE TABLE newest (order_id BLOB PRIMARY KEY, at INTEGER, ended INTEGER) WITHOUT ROWID;
CREATE TABLE goes_on (order_id BLOB PRIMARY KEY) WITHOUT ROWID;
"""
_NEWER: Final = (
    "INSERT INTO newest VALUES (?, ?, ?) ON CONFLICT (order_id) DO UPDATE SET at = excluded.at, ended = excluded.ended"
    " WHERE excluded.at >= at"
)
_FOUND: Final = (
    "SELECT 1 FROM newest WHERE order_id = ? AND (ended OR NOT EXISTS"
    " (SELECT 1 FROM goes_on WHERE goes_on.order_id = newest.order_id))"
)


class Endings:
    """The orders of a log that may have been removed.

    removals: those there were, None for none.  terminal: the statuses in which an order has ended.
    """

    def __init__(self, removals: Removals | None, terminal: Collection[str]) -> None:
        self._removals = removals or NOTHING
        self._terminal = terminal
        self._aside = sqlite3.connect("")  # a file of its own, gone with the connection
        self._aside.executescript(_TABLES)

    @property
    def wanted(self) -> bool:
        """Whether the log needs to be read for them."""
        return self._removals is not NOTHING

    def read(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Read all *records* of the log, flat, in any order."""
        for record in records:
            order_id, at = _key(record[names.ORDER_ID]), record[names.OCCURRED_AT]
            if self._removals.cover(at):
                self._aside.execute(_NEWER, (order_id, at, record[names.TO_STATUS] in self._terminal))
            elif at > self._removals.last:
                self._aside.execute("INSERT OR IGNORE INTO goes_on VALUES (?)", (order_id,))

    def among(self, order_ids: Iterable[str]) -> tuple[frozenset[str], int]:
        """Return those of *order_ids* that may have been removed, and up to when (unix ns).

        A log may tell a part of a life only, so one without an end counts, too, unless it goes on later.
        """
        ended = frozenset(one for one in set(order_ids) if self._aside.execute(_FOUND, (_key(one),)).fetchone())
        return ended, self._removals.last

    def close(self) -> None:
        """Forget all of it."""
        self._aside.close()


def _key(order_id: str) -> bytes:
    return order_id.encode("utf-8", "surrogatepass")
