"""Write an event as a row in the application's own transaction: it is true exactly if the change is.

The ledger follows the table.  Knows DB-API connections (PEP 249) and SQLAlchemy's, and nothing of sinks.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import msgspec

from otel_orders.errors import ConfigurationError

if TYPE_CHECKING:
    from otel_orders.event import Event

TABLE: Final = "otel_orders_outbox"

SCHEMA: Final = {
    "sqlite": f"CREATE TABLE IF NOT EXISTS {TABLE} (id INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL)",
    "postgresql": f"CREATE TABLE IF NOT EXISTS {TABLE} (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    " event TEXT NOT NULL)",
}
"""The statement that makes the table, by dialect: for the application's migrations."""

_PLACEHOLDERS: Final = {"qmark": "?", "format": "%s", "pyformat": "%s"}


def write(connection: Any, event: Event) -> None:
    """Insert *event* through *connection*, inside whatever transaction it is in; never commits.

    Raises ConfigurationError for a connection that is not known, and what the driver raises.  A failed insert leaves
    the transaction usable: PostgreSQL would refuse all that follows it, so there a savepoint stands around it.
    """
    plain = _dbapi_connection(connection)
    style = _paramstyle(plain)
    cursor = plain.cursor()
    try:
        if style == "qmark":  # SQLite: a failed statement harms no transaction, and an outer savepoint would commit
            _insert(cursor, event, style)
        else:
            _insert_in_savepoint(cursor, event, style)
    finally:
        cursor.close()


def _insert(cursor: Any, event: Event, style: str) -> None:
    line = msgspec.json.encode(event).decode()
    cursor.execute(f"INSERT INTO {TABLE} (event) VALUES ({_PLACEHOLDERS[style]})", (line,))  # noqa: S608 - a constant


def _insert_in_savepoint(cursor: Any, event: Event, style: str) -> None:
    cursor.execute("SAVEPOINT otel_orders")
    try:
        _insert(cursor, event, style)
    except Exception:
        cursor.execute("ROLLBACK TO SAVEPOINT otel_orders")
        raise
    cursor.execute("RELEASE SAVEPOINT otel_orders")


def _dbapi_connection(connection: Any) -> Any:
    """Return the driver's own connection where *connection* is SQLAlchemy's Session or Connection."""
    if hasattr(connection, "exec_driver_sql") or hasattr(connection, "get_bind"):
        session_or_connection = connection.connection
        pooled = session_or_connection() if callable(session_or_connection) else session_or_connection
        pooled = getattr(pooled, "connection", pooled)
        return getattr(pooled, "driver_connection", pooled)
    return connection


def _paramstyle(connection: Any) -> str:
    module = sys.modules.get(type(connection).__module__.partition(".")[0])
    style = getattr(module, "paramstyle", None)
    if style not in _PLACEHOLDERS or not hasattr(connection, "cursor"):
        raise ConfigurationError(
            f"outbox: cannot write through a {type(connection).__module__}.{type(connection).__qualname__};"
            " expected a DB-API connection (sqlite3, psycopg, ...) or SQLAlchemy's"
        )
    return str(style)
