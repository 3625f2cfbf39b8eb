"""The MES's own database: the jobs on the shop floor.  Knows nothing of messages or telemetry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from examples.order_pipeline.database import Database

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    order_id TEXT PRIMARY KEY,
    status   TEXT NOT NULL DEFAULT 'MANUFACTURING_STARTED'
);
"""


@dataclass(frozen=True)
class Job:
    """An order on the shop floor.  That it is being packed is known to the packaging terminal only."""

    order_id: str
    status: str


class Jobs:
    """The table of jobs.  Each change returns whether it happened."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, SCHEMA)
        self.disconnect = self._database.close

    def find(self, order_id: str) -> Job | None:
        row = self._database.row("SELECT * FROM jobs WHERE order_id = ?", order_id)
        return Job(*row) if row else None

    def start(self, order_id: str) -> bool:
        return self._database.change("INSERT OR IGNORE INTO jobs (order_id) VALUES (?)", order_id)

    def complete(self, order_id: str) -> bool:
        return self._move(order_id, "MANUFACTURING_STARTED", "MANUFACTURING_COMPLETED")

    def ship(self, order_id: str) -> bool:
        return self._move(order_id, "MANUFACTURING_COMPLETED", "SHIPPED")

    def _move(self, order_id: str, before: str, after: str) -> bool:
        return self._database.change(
            "UPDATE jobs SET status = ? WHERE order_id = ? AND status = ?", after, order_id, before
        )
