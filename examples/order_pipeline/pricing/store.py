"""The pricing workers' own database: what they said about each model, so that no message is priced twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from examples.order_pipeline.database import Database

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS quotes (
    order_id    TEXT NOT NULL,
    revision    INTEGER NOT NULL,
    price_cents INTEGER,
    rejection   TEXT,
    PRIMARY KEY (order_id, revision)
);
"""


class Quote(NamedTuple):
    """What we say about one model: a price, or why there is none."""

    order_id: str
    revision: int
    price_cents: int | None = None
    rejection: str | None = None


class Quotes:
    """The table of quotes; all workers share it."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, SCHEMA)
        self.disconnect = self._database.close

    def find(self, order_id: str, revision: int) -> Quote | None:
        row = self._database.row("SELECT * FROM quotes WHERE order_id = ? AND revision = ?", order_id, revision)
        return Quote(*row) if row else None

    def keep(self, quote: Quote) -> Quote:
        self._database.change("INSERT OR IGNORE INTO quotes VALUES (?, ?, ?, ?)", *quote)
        return quote
