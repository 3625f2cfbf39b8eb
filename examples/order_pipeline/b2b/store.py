"""The B2B entry's own database: which orders each partner sent, and when.  Knows nothing of HTTP or telemetry."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from examples.order_pipeline.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    partner_id TEXT NOT NULL,
    reference  TEXT NOT NULL,
    order_id   TEXT NOT NULL UNIQUE,
    day        TEXT NOT NULL,
    PRIMARY KEY (partner_id, reference)
);
CREATE INDEX IF NOT EXISTS orders_of_a_day ON orders (partner_id, day);
"""


def order_id_for(partner_id: str, reference: str) -> str:
    """Return the order id: always the same for a partner's reference, so that a repeated batch orders nothing twice."""
    return hashlib.sha256(f"{partner_id}\n{reference}".encode()).hexdigest()[:12]


class Sent(NamedTuple):
    """An order as the partner knows it."""

    partner_id: str
    reference: str


class Received:
    """The table of orders that were received."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, SCHEMA)
        self.disconnect = self._database.close

    def admit(self, partner_id: str, references: Iterable[str], day: str, quota: int) -> bool:
        """Count *references* for *day* (ISO date); False, and none is counted, if that would pass the quota.

        A reference that was counted before costs nothing.
        """
        connection = self._database.connection
        with connection:
            connection.executemany(
                "INSERT OR IGNORE INTO orders VALUES (?, ?, ?, ?)",
                [(partner_id, name, order_id_for(partner_id, name), day) for name in references],
            )
            (count,) = connection.execute(
                "SELECT count(*) FROM orders WHERE partner_id = ? AND day = ?", (partner_id, day)
            ).fetchone()
            if count > quota:
                connection.rollback()
        return bool(count <= quota)

    def find(self, order_id: str) -> Sent | None:
        """Return the order, None where no partner sent it."""
        row = self._database.row("SELECT partner_id, reference FROM orders WHERE order_id = ?", order_id)
        return Sent(*row) if row else None
