"""The shop's own database: its orders and their models.

Each change names, in its own statement, the statuses that it may start from: of two requests at once, one wins.
Knows nothing of HTTP, messages or telemetry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from examples.order_pipeline.database import Database

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    order_id    TEXT PRIMARY KEY,
    partner_id  TEXT,
    material    TEXT NOT NULL,
    status      TEXT NOT NULL DEFAULT 'INITIATED',
    revision    INTEGER NOT NULL DEFAULT 0,
    price_cents INTEGER,
    rejection   TEXT
);
CREATE TABLE IF NOT EXISTS models (
    order_id TEXT PRIMARY KEY REFERENCES orders (order_id),
    stl      BLOB NOT NULL
);
"""


@dataclass(frozen=True)
class Order:
    """An order as the shop knows it.  revision: how many models were uploaded; rejection: why the last has no price."""

    order_id: str
    partner_id: str | None
    material: str
    status: str
    revision: int
    price_cents: int | None
    rejection: str | None


class NotFoundError(LookupError):
    """The shop does not have it."""


class Orders:
    """The table of orders.  Each change returns whether it happened."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, SCHEMA)
        self.disconnect = self._database.close

    def get(self, order_id: str) -> Order:
        """Return the order.  Raises NotFoundError."""
        if row := self._database.row("SELECT * FROM orders WHERE order_id = ?", order_id):
            return Order(*row)
        raise NotFoundError("there is no such order")

    def model(self, order: Order) -> bytes:
        """Return the newest model of the order.  Raises NotFoundError."""
        if row := self._database.row("SELECT stl FROM models WHERE order_id = ?", order.order_id):
            return bytes(row[0])
        raise NotFoundError("the order has no model")

    def create(self, order_id: str, partner_id: str | None, material: str) -> bool:
        return self._database.change(
            "INSERT OR IGNORE INTO orders (order_id, partner_id, material) VALUES (?, ?, ?)",
            order_id,
            partner_id,
            material,
        )

    def upload(self, order_id: str, stl: bytes) -> bool:
        with self._database.connection:  # the model and the status change together
            accepted = self._database.connection.execute(
                "UPDATE orders SET status = 'FILE_UPLOADED', revision = revision + 1, rejection = NULL"
                " WHERE order_id = ? AND status IN ('INITIATED', 'FILE_UPLOADED', 'PRICE_REJECTED')",
                (order_id,),
            ).rowcount
            if accepted:
                self._database.connection.execute("INSERT OR REPLACE INTO models VALUES (?, ?)", (order_id, stl))
        return accepted == 1

    def submit(self, order_id: str) -> bool:
        return self._database.change(
            "UPDATE orders SET status = 'SUBMITTED' WHERE order_id = ? AND status = 'FILE_UPLOADED'", order_id
        )

    def cancel(self, order_id: str) -> bool:
        return self._database.change(
            "UPDATE orders SET status = 'CANCELLED'"
            " WHERE order_id = ? AND status IN ('INITIATED', 'FILE_UPLOADED', 'PRICE_REJECTED')",
            order_id,
        )

    def quote(self, order: Order, revision: int, price_cents: int | None, rejection: str | None) -> bool:
        """Keep what pricing said about the model of that *revision*, unless nobody waits for it any more."""
        return self._database.change(
            "UPDATE orders SET status = ?, price_cents = ?, rejection = ?"
            " WHERE order_id = ? AND revision = ? AND status = 'SUBMITTED'",
            "PRICE_CALCULATED" if rejection is None else "PRICE_REJECTED",
            price_cents,
            rejection,
            order.order_id,
            revision,
        )
