"""The tables in PostgreSQL, in a schema of their own, and how they come from one version to the next.

What concerns one order stands in ``orders``, keyed and hash-partitioned by its id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_orders.errors import ConfigurationError, StoreVersionError

if TYPE_CHECKING:
    from psycopg import Connection

SCHEMA: Final = "otel_orders"
PARTITIONS: Final = 16
MIGRATING: Final = 0x6F746F72
"""The advisory lock of whoever migrates: "otor"."""

# Rows are replaced all the time: what is left free in their pages takes the next versions, and vacuum comes early.
ROOM: Final = (
    "WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.1)"
)

SCHEMA_1: Final = (
    'CREATE TABLE meta (key text COLLATE "C" PRIMARY KEY, value text NOT NULL)',
    """CREATE TABLE orders (
        order_id text COLLATE "C" NOT NULL PRIMARY KEY,
        stage integer,
        waiting_since bigint,
        due_at bigint,
        state bytea NOT NULL
    ) PARTITION BY HASH (order_id)""",
    *(
        f"CREATE TABLE orders_{place} PARTITION OF orders"
        f" FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {place}) {ROOM}"
        for place in range(PARTITIONS)
    ),
    "CREATE INDEX orders_due ON orders (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX orders_waiting ON orders (stage, waiting_since) WHERE stage IS NOT NULL",
    # Each replica adds in a slot of its own, so that none waits for another's commit; a total is the sum of all slots.
    """CREATE TABLE totals (
        slot integer NOT NULL,
        series text COLLATE "C" NOT NULL,
        value bigint NOT NULL,
        PRIMARY KEY (slot, series)
    ) WITH (fillfactor = 50)""",
    """CREATE TABLE seen (
        service text COLLATE "C" NOT NULL,
        instance text COLLATE "C" NOT NULL,
        role text COLLATE "C" NOT NULL,
        at bigint NOT NULL,
        lifecycle_hash text NOT NULL,
        PRIMARY KEY (service, instance, role)
    ) WITH (fillfactor = 50)""",
    'CREATE TABLE moments (series text COLLATE "C" PRIMARY KEY, at bigint) WITH (fillfactor = 50)',
    """CREATE TABLE messages (
        queue text COLLATE "C" NOT NULL,
        message_id text COLLATE "C" NOT NULL,
        order_id text COLLATE "C" NOT NULL,
        published_at bigint,
        settled_at bigint,
        PRIMARY KEY (queue, message_id)
    )""",
    "CREATE INDEX messages_waiting ON messages (queue, published_at) WHERE settled_at IS NULL",
    """CREATE TABLE leases (
        name text COLLATE "C" PRIMARY KEY,
        holder text NOT NULL,
        until timestamptz NOT NULL,
        at bigint NOT NULL
    ) WITH (fillfactor = 50)""",
)
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (SCHEMA_1,)
"""What brings a database of each version, from 0, to the next one."""
VERSION: Final = len(MIGRATIONS)


def migrate(connection: Connection[Any], shown: str) -> None:
    """Bring the database behind *connection* to this version; of several that try at once, one does it.

    shown: what the store is called in messages.  Raises StoreVersionError.
    """
    if check(version(connection), shown) == len(MIGRATIONS):
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATING,))
        found = check(version(connection), shown)
        if found == 0:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            connection.execute("CREATE TABLE schema_version (version integer NOT NULL)")
            connection.execute("INSERT INTO schema_version VALUES (0)")
        for statements in MIGRATIONS[found:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute("UPDATE schema_version SET version = %s", (len(MIGRATIONS),))


def check_present(connection: Connection[Any], shown: str) -> None:
    """Raise ConfigurationError where there is no store of this version, which is not made or brought forward here."""
    found = check(version(connection), shown)
    if not found:
        raise ConfigurationError(f"{shown} is no ledger's store: no ledger has ever used this database")
    if found < len(MIGRATIONS):
        raise ConfigurationError(
            f"{shown} has schema {found} of an older otel_orders, and this one has {len(MIGRATIONS)}: start a ledger of"
            " this version with it first, or use the older one's command"
        )


def version(connection: Connection[Any]) -> int:
    """Return the version of the schema, 0 where there is none yet."""
    there = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (f"{SCHEMA}.schema_version",)).fetchone()
    found = connection.execute("SELECT version FROM schema_version").fetchone() if there and there[0] else None
    return found[0] if found else 0


def check(found: int, shown: str) -> int:
    """Return *found*, a version.  Raises StoreVersionError where it is newer than this program."""
    if found > len(MIGRATIONS):
        raise StoreVersionError(
            f"{shown} has schema {found}, written by a newer otel_orders; this one knows up to {len(MIGRATIONS)}:"
            " upgrade otel_orders, or give it another database"
        )
    return found
