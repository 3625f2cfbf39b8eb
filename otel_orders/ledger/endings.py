"""Find the orders of an event log that ended when such did that were removed: they may be among them.

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

_TABLE: Final = "CREATE TABLE newest (order_id BLOB PRIMARY KEY, at INTEGER, ended INTEGER) WITHOUT ROWID"
_NEWER: Final = (
    "INSERT INTO newest VALUES (?, ?, ?) ON CONFLICT (order_id) DO UPDATE SET at = excluded.at, ended = excluded.ended"
    " WHERE excluded.at >= at"
)


class Endings:
    """The orders of a log that may have been removed.

    removals: those there were, None for none.  terminal: the statuses in which an order has ended.
    """

    def __init__(self, removals: Removals | None, terminal: Collection[str]) -> None:
        self._removals = removals or NOTHING
        self._terminal = terminal
        self._aside = sqlite3.connect("")  # a file of its own, gone with the connection
        self._aside.execute(_TABLE)

    @property
    def wanted(self) -> bool:
        """Whether the log needs to be read for them."""
        return self._removals is not NOTHING

    def read(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Read all *records* of the log, flat, in any order."""
        rows = (
            (_key(record[names.ORDER_ID]), record[names.OCCURRED_AT], record[names.TO_STATUS] in self._terminal)
            for record in records
            if self._removals.cover(record[names.OCCURRED_AT])
        )
        self._aside.executemany(_NEWER, rows)

    def among(self, order_ids: Iterable[str]) -> tuple[frozenset[str], int]:
        """Return those of *order_ids* that ended when such did that were removed, and when the last did (unix ns)."""
        found = "SELECT 1 FROM newest WHERE order_id = ? AND ended"
        ended = frozenset(one for one in set(order_ids) if self._aside.execute(found, (_key(one),)).fetchone())
        return ended, self._removals.last

    def close(self) -> None:
        """Forget all of it."""
        self._aside.close()


def _key(order_id: str) -> bytes:
    return order_id.encode("utf-8", "surrogatepass")
