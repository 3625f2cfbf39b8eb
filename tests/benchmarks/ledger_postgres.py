"""The whole way in with PostgreSQL: OTLP log requests to the commit, as one replica of the ledger does it.

Beside it, in turns, what one would write by hand: the same requests parsed, each event a row keyed by order and event
id, each order a row with its status.  That keeps no visits, promises, timers, totals or corrections.  Counted is the
CPU of the ledger's process, which is what a replica needs; the server's is another machine's, as a rule.
"""

from __future__ import annotations

import os
import statistics
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import psycopg

from otel_orders.cli.ledger import tune_garbage_collection
from otel_orders.ledger.model import Plan
from otel_orders.ledger.store import Batch
from otel_orders.ledger.store.postgres import PostgresStore
from otel_orders.lifecycle import load_lifecycle
from tests.benchmarks.harness import Figure, benchmark
from tests.benchmarks.ledger_ingest import BATCH, LIFECYCLE, Orders
from tests.benchmarks.ledger_otlp import kept, requests, rows_of, seconds_of
from tests.postgres import postgres

if TYPE_CHECKING:
    from collections.abc import Sequence

MEASURED = 25
TABLES = (
    "CREATE TABLE events (order_id text, event_id text, at bigint, status text, PRIMARY KEY (order_id, event_id))",
    "CREATE TABLE orders (order_id text PRIMARY KEY, status text, entered_at bigint)",
)
KEEP = (
    "INSERT INTO events SELECT * FROM unnest(%b::text[], %b::text[], %b::bigint[], %b::text[]) ON CONFLICT DO NOTHING"
)
MOVE = (
    "INSERT INTO orders SELECT * FROM unnest(%b::text[], %b::text[], %b::bigint[]) ON CONFLICT (order_id) DO UPDATE SET"
    " status = excluded.status, entered_at = excluded.entered_at WHERE excluded.entered_at > orders.entered_at"
)

Connection = psycopg.Connection[Any]


def size() -> int:
    """Return how many orders are open: fewer than in a file, since filling a server takes longer."""
    return 1_000_000 if os.environ.get("SIZE") == "full" else int(os.environ.get("ORDERS", "100000"))


def by_hand(connection: Connection, bodies: Sequence[bytes]) -> None:
    """Keep the events of *bodies* the plain way, in one transaction."""
    _insert(connection, sorted(row for body in bodies for row in rows_of(body)))


def _insert(connection: Connection, rows: list[tuple[str, str, int, str]]) -> None:
    latest = {row[0]: row for row in sorted(rows, key=lambda row: row[2])}
    orders = sorted(latest.values())
    with connection.transaction():
        connection.execute(KEEP, [[row[place] for row in rows] for place in range(4)])
        connection.execute(MOVE, [[row[place] for row in orders] for place in (0, 3, 2)])


def hand_store(orders: Orders, url: str) -> Connection:
    """Return a connection to a hand-written store in which *orders* wait."""
    connection = psycopg.connect(url, autocommit=True)
    for statement in TABLES:
        connection.execute(statement)
    for received in orders.so_far():
        _insert(connection, [(one.order_id, one.event.id.hex(), one.event.at, one.event.to) for one in received])
    return connection


@benchmark("ledger/ingest_postgres", budget=12_000)
def ingest_postgres(name: str, budget: float) -> Figure:
    """Measure both, batch by batch, on a server that flushes each commit to disk."""
    count, plan = size(), Plan(load_lifecycle(LIFECYCLE))
    orders = Orders(count)
    with ExitStack() as stack:
        server = stack.enter_context(postgres(private=True, durable=True))
        urls = [stack.enter_context(server.new()) for _ in range(2)]
        server.run("ALTER SYSTEM SET synchronous_commit TO off")  # the store asks for it; filling the tables does not
        server.run("SELECT pg_reload_conf()")
        store = stack.enter_context(closing(PostgresStore(urls[0])))
        batch = Batch(store, plan)
        for received in orders.so_far():
            batch.ingest(received)
        connection = stack.enter_context(closing(hand_store(Orders(count), urls[1])))
        for url in urls:
            with psycopg.connect(url, autocommit=True) as other:
                other.execute("VACUUM ANALYZE")
        server.run("CHECKPOINT")
        connection.execute("SET synchronous_commit TO on")
        batches = [requests(received) for received in orders.next(MEASURED)]
        tune_garbage_collection()  # as `otel-orders ledger` does
        pairs: list[tuple[float, float]] = []
        wall = 0.0
        for bodies in batches:
            began = time.perf_counter()
            ours = seconds_of(lambda: kept(batch, plan, bodies))  # noqa: B023 - run at once
            wall += time.perf_counter() - began if pairs else 0.0
            pairs.append((ours, seconds_of(lambda: by_hand(connection, bodies))))  # noqa: B023 - run at once
        pairs = pairs[1:]
    ours, theirs = (BATCH * len(pairs) / sum(column) for column in zip(*pairs, strict=True))
    low, middle, high = statistics.quantiles([mine / peer for mine, peer in pairs], n=4)
    return Figure(
        name=name,
        value=ours,
        unit=f"events/s, {count:,} open orders",
        peer=theirs,
        ratio=middle,
        spread=(high - low) / 2 / middle,
        budget=budget,
        holds=ours >= budget,
        counts=(
            "CPU of the ledger's process, OTLP protobuf to commit, synchronous_commit=on; the server's is not counted"
            f" (both on this machine: {BATCH * len(pairs) / wall:,.0f}/s); ratio: cost over two plain tables"
        ),
    )
