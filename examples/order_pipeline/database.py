"""A service's own SQLite file.  Knows no table: each service has its own store on top of this."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class Database:
    """One connection for one thread.  Statements take their values as parameters, never in their text."""

    def __init__(self, path: Path, schema: str) -> None:
        self.connection = sqlite3.connect(path)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.executescript(schema)

    def close(self) -> None:
        self.connection.close()

    def row(self, query: str, *values: object) -> tuple[Any, ...] | None:
        """Return the first row, or None."""
        found: tuple[Any, ...] | None = self.connection.execute(query, values).fetchone()
        return found

    def change(self, statement: str, *values: object) -> bool:
        """Run *statement* in a transaction of its own; return whether it changed a row.

        A message or a request may come twice: the statement says what must hold before, and this whether it did.
        """
        with self.connection:
            return self.connection.execute(statement, values).rowcount == 1
