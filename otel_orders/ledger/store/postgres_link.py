"""Connections to PostgreSQL: they come back by themselves, and what is said of them never holds a password."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from otel_orders.errors import ConfigurationError, StoreConflictError, StoreUnavailableError
from otel_orders.ledger.store.postgres_schema import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable

    Connection = psycopg.Connection[Any]

DEFAULTS: Final[dict[str, str | int]] = {
    "application_name": "otel-orders",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""What the URL does not say otherwise.  A host that is gone without a word is noticed within half a minute."""
SESSION: Final = (
    f"SET search_path TO {SCHEMA}",
    "SET synchronous_commit TO on",
    "SET lock_timeout TO '10s'",
    "SET idle_in_transaction_session_timeout TO '60s'",  # a replica that stopped must not hold its orders for ever
    "SET timezone TO 'UTC'",
)
TRY_AGAIN: Final = frozenset({"40001", "40P01"})
"""Serialization failure, deadlock: the same again will do."""

REASONS: Final = {"53100": "full", "55P03": "locked", "25006": "read_only"}
"""What some of PostgreSQL's states are called in metrics: disk_full, lock_not_available, read_only_sql_transaction."""


class Address:
    """Where a database is.  shown: for people, without a password.

    option: where the URL was given.  defaults: what libpq is told beside DEFAULTS.  Raises ConfigurationError.
    """

    def __init__(self, url: str, option: str, **defaults: str) -> None:
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error:  # its text quotes what it does not understand: perhaps a piece of the password
            raise ConfigurationError(f"{option} postgresql://...: this is no URL that PostgreSQL understands") from None
        self.conninfo = make_conninfo("", **(DEFAULTS | defaults | given))
        user = f"{given['user']}@" if given.get("user") else ""
        port = f":{given['port']}" if given.get("port") else ""
        self.shown = f"postgresql://{user}{given.get('host') or ''}{port}/{given.get('dbname') or ''}"

    def connect(self) -> Connection:
        """Open a connection that commits each statement by itself."""
        return psycopg.connect(self.conninfo, autocommit=True)

    def told(self, error: psycopg.Error) -> Exception:
        """Return *error* as one of ours, or as it is where it is about what was to be written."""
        if isinstance(error, psycopg.DataError):
            return error
        kind = StoreConflictError if error.sqlstate in TRY_AGAIN else StoreUnavailableError
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return kind(f"the store {self.shown} cannot be used: {lines[0]}", REASONS.get(error.sqlstate or ""))


class Link:
    """One connection, opened when it is used and again after it broke.  prepare: what is done with each new one."""

    def __init__(self, address: Address, prepare: Callable[[Connection], None]) -> None:
        self._address = address
        self._prepare = prepare
        self._connection: Connection | None = None
        self._closed = False

    def first(self, statement: str, parameters: tuple[Any, ...] | None = None) -> psycopg.Cursor[Any]:
        """Execute *statement* before anything else is done: on a new connection where the one there was is gone."""
        if self._connection is not None:
            try:
                return self._execute(self._connection, statement, parameters)
            except psycopg.OperationalError:
                if not self._connection.closed:
                    raise
        return self._execute(self._opened(), statement, parameters)

    def _execute(
        self, connection: Connection, statement: str, parameters: tuple[Any, ...] | None
    ) -> psycopg.Cursor[Any]:
        # Without parameters it may be several statements, and those cannot answer in binary.
        return connection.cursor(binary=parameters is not None).execute(statement, parameters)

    def _opened(self) -> Connection:
        if self._closed:
            raise StoreUnavailableError(f"the store {self._address.shown} cannot be used: it is closed")
        self.drop()
        connection = self._address.connect()
        try:
            for statement in SESSION:
                connection.execute(statement)
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def drop(self) -> None:
        """Let go of the connection; the next use opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Let go of the connection for good."""
        self._closed = True
        self.drop()
