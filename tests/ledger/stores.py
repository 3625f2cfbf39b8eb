"""What tests do to a store behind its back, whichever it is: hold it, damage it, empty it."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from otel_orders.ledger.kept import Fold, OpenClock, Order, pack
from otel_orders.ledger.store.postgres import PostgresStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from otel_orders.ledger.store import Store
    from tests.postgres import Postgres

TABLES = "orders, totals, meta, seen, moments, messages, leases"


def raw(store: Store) -> AbstractContextManager[Any]:
    """Give another connection to what *store* writes, for statements that each commit by themselves."""
    if isinstance(store, PostgresStore):
        connection = psycopg.connect(store._address.conninfo, autocommit=True)
        connection.execute("SET search_path TO otel_orders")
        return closing(connection)
    return closing(sqlite3.connect(store._path, isolation_level=None))  # type: ignore[attr-defined]


@contextmanager
def held(store: Store) -> Iterator[None]:
    """Keep the store from writing inside the block, as another process would."""
    with raw(store) as other:
        if isinstance(store, PostgresStore):
            other.execute("BEGIN")
            other.execute("LOCK TABLE orders, totals IN EXCLUSIVE MODE")
        else:
            other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def impatient(store: Store) -> None:
    """Let *store* wait for others for 10 ms only."""
    if isinstance(store, PostgresStore):
        store._writer._connection.execute("SET lock_timeout TO '10ms'")  # type: ignore[union-attr]
    else:
        store._writer.execute("PRAGMA busy_timeout = 10")  # type: ignore[attr-defined]


ROTTEN = pack(Order(Fold("INITIATED", clocks=[OpenClock(99, "retail", 0, 1, 1)]), swept_at=1))
"""A row that can be read, and whose fold cannot be of any lifecycle of the tests."""


def spoil(store: Store, order_id: str, rotten: bytes = ROTTEN) -> None:
    """Damage the row of *order_id*."""
    mark = "%b" if isinstance(store, PostgresStore) else "?"
    with raw(store) as other:
        other.execute(f"UPDATE orders SET state = {mark} WHERE order_id = {mark}", (rotten, order_id))  # noqa: S608


@contextmanager
def emptied(server: Postgres) -> Iterator[Callable[[], AbstractContextManager[str]]]:
    """Give what gives the URL of an empty store in *server*, and empties it again: quicker than a new database each."""
    free: list[str] = []
    with ExitStack() as made:

        @contextmanager
        def place() -> Iterator[str]:
            url = free.pop() if free else made.enter_context(server.new())
            yield url
            with psycopg.connect(url, autocommit=True, options="-c search_path=otel_orders") as connection:
                # Of so few rows, a tenth of what TRUNCATE costs, which makes new files for each partition.
                connection.execute("; ".join(f"DELETE FROM {table}" for table in TABLES.split(", ")))  # noqa: S608 - constants
            free.append(url)

        yield place
