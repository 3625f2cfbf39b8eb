from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import msgspec
import pytest

from otel_orders.errors import ConfigurationError
from otel_orders.event import AnyEvent, StatusChanged
from otel_orders.outbox import SCHEMA, write

EVENT = StatusChanged(event_id="0" * 32, service="mes", env="test", occurred_at=1, order_id="A-1", to_status="SHIPPED")


@pytest.fixture
def database() -> Any:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(SCHEMA["sqlite"])
        yield connection


class DriverCursor:
    """A PEP 249 cursor in PostgreSQL's style over SQLite, which knows savepoints too."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        self._cursor.execute(statement.replace("%s", "?"), values)

    def close(self) -> None:
        self._cursor.close()


class DriverConnection:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection_of_sqlite = connection

    def cursor(self) -> DriverCursor:
        return DriverCursor(self.connection_of_sqlite.cursor())


paramstyle = "pyformat"  # this module is the driver of DriverConnection


class PooledConnection:
    def __init__(self, driver: Any) -> None:
        self.driver_connection = driver


class EngineConnection:
    """What SQLAlchemy's Connection shows."""

    exec_driver_sql = None

    def __init__(self, driver: Any) -> None:
        self.connection = PooledConnection(driver)


class OrmSession:
    """What SQLAlchemy's Session shows."""

    get_bind = None

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def connection(self) -> EngineConnection:
        return EngineConnection(self._driver)


def events(database: sqlite3.Connection) -> list[AnyEvent]:
    return [
        msgspec.json.decode(line, type=AnyEvent)
        for (line,) in database.execute("SELECT event FROM otel_orders_outbox ORDER BY id")
    ]


@pytest.mark.parametrize("seen_as", [lambda driver: driver, EngineConnection, OrmSession])
@pytest.mark.parametrize("driver", [lambda connection: connection, DriverConnection])
def test_an_event_is_written_through_a_driver_or_sqlalchemy(
    database: sqlite3.Connection, driver: Any, seen_as: Any
) -> None:
    write(seen_as(driver(database)), EVENT)
    assert events(database) == [EVENT]


@pytest.mark.parametrize("driver", [lambda connection: connection, DriverConnection])
def test_a_failed_insert_leaves_the_transaction_as_it_was(database: sqlite3.Connection, driver: Any) -> None:
    database.execute("CREATE TABLE orders (id TEXT)")
    database.execute("DROP TABLE otel_orders_outbox")
    database.execute("INSERT INTO orders VALUES ('A-1')")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        write(driver(database), EVENT)
    database.execute("INSERT INTO orders VALUES ('A-2')")
    database.commit()
    assert database.execute("SELECT count(*) FROM orders").fetchone() == (2,)


def test_nothing_is_committed(database: sqlite3.Connection) -> None:
    write(database, EVENT)
    assert database.in_transaction
    database.rollback()
    assert events(database) == []


@pytest.mark.parametrize("connection", [object(), None, "sqlite:///orders.db"])
def test_what_is_no_connection_is_refused_with_what_was_expected(connection: object) -> None:
    with pytest.raises(ConfigurationError, match="expected a DB-API connection"):
        write(connection, EVENT)
