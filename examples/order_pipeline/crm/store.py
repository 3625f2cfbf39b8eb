"""The CRM's own database: the orders that it approved.  Knows nothing of messages or telemetry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from examples.order_pipeline.database import Database

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    order_id    TEXT PRIMARY KEY,
    price_cents INTEGER NOT NULL,
    status      TEXT NOT NULL DEFAULT 'MANUFACTURING_APPROVED'
);
"""


@dataclass(frozen=True)
class Order:
    """An order as the CRM knows it: MANUFACTURING_APPROVED or CLOSED."""

    order_id: str
    price_cents: int
    status: str


class Orders:
    """The table of orders.  Each change returns whether it happened."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, SCHEMA)
        self.disconnect = self._database.close

    def find(self, order_id: str) -> Order | None:
        row = self._database.row("SELECT * FROM orders WHERE order_id = ?", order_id)
        return Order(*row) if row else None

    def approve(self, order_id: str, price_cents: int) -> bool:
        return self._database.change(
            "INSERT OR IGNORE INTO orders (order_id, price_cents) VALUES (?, ?)", order_id, price_cents
        )

    def close(self, order_id: str) -> bool:
        return self._database.change(
            "UPDATE orders SET status = 'CLOSED' WHERE order_id = ? AND status = 'MANUFACTURING_APPROVED'", order_id
        )
