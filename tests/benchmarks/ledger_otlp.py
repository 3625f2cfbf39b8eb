"""The whole way in: OTLP log requests, as the exporter sends them, to the commit.

Beside it, in turns, what one would write by hand: the same requests parsed, each event a row keyed by order and event
id, each order a row with its status.  That keeps no visits, promises, timers, totals or corrections.  And, as the least
that the ledger's own rows can cost: each read, the event put at its end, written again, and nothing made of it.
"""

from __future__ import annotations

import shutil
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_orders.cli.ledger import tune_garbage_collection
from otel_orders.ledger import ingest
from otel_orders.ledger.kept import CHANGED, Kept, pack, unpack
from otel_orders.ledger.reading import Reading
from otel_orders.ledger.store import Batch
from otel_orders.ledger.store.sqlite import SqliteStore
from tests.benchmarks.harness import Figure, benchmark
from tests.benchmarks.ledger_ingest import BATCH, MEASURED, NOW, Orders, existing, filled, plan, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

    from otel_orders.ledger.model import Plan
    from otel_orders.ledger.store import Received

    Keeps = Callable[[Sequence[bytes]], None]
    """Keeps the events of such bodies, in one transaction."""

REQUEST = 500
"""Records in one request: the exporter's batch."""
LATER = NOW + 3600 * 10**9
EVENTS = "CREATE TABLE events (order_id, event_id, at, status, PRIMARY KEY (order_id, event_id)) WITHOUT ROWID"
ORDERS = "CREATE TABLE orders (order_id PRIMARY KEY, status, entered_at) WITHOUT ROWID"
KEEP = "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?)"
MOVE = (
    "INSERT INTO orders VALUES (?, ?, ?) ON CONFLICT (order_id) DO UPDATE SET"
    " status = excluded.status, entered_at = excluded.entered_at WHERE excluded.entered_at > orders.entered_at"
)


def requests(received: Sequence[Received]) -> list[bytes]:
    """Return *received* as the bodies of requests, with the fields that the library sends."""
    return [_body(received[start : start + REQUEST]) for start in range(0, len(received), REQUEST)]


def _body(received: Sequence[Received]) -> bytes:
    request = ExportLogsServiceRequest()
    resource_logs = request.resource_logs.add()
    for name, value in (("service.name", "mes-api"), ("deployment.environment.name", "bench")):
        resource_logs.resource.attributes.add(key=name).value.string_value = value
    records = resource_logs.scope_logs.add().log_records
    for one in received:
        _describe(records.add(), one)
    return request.SerializeToString()


def _describe(record: LogRecord, received: Received) -> None:
    event = received.event
    record.time_unix_nano = event.at
    record.trace_id, record.span_id = event.trace_id, event.span_id
    record.event_name = record.body.string_value = "order.status_changed"
    texts = {
        "event_type": record.event_name,
        "event_id": event.id.hex(),
        "service": "mes-api",
        "env": "bench",
        "order_id": received.order_id,
    }
    texts |= {
        "to_status": event.to,
        "status": event.to,
        "from_status": event.left or "",
        "partner_id": event.partner or "",
    }
    for name, text in texts.items():
        if text:
            record.attributes.add(key=name).value.string_value = text
    for name, number in (("duration", event.duration), ("occurred_at", event.at)):
        record.attributes.add(key=name).value.int_value = number


def by_hand(connection: sqlite3.Connection, bodies: Sequence[bytes]) -> None:
    """Keep the events of *bodies* the plain way, in one transaction."""
    rows = [row for body in bodies for row in rows_of(body)]
    rows.sort()
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(KEEP, rows)
    connection.executemany(MOVE, ((order_id, status, at) for order_id, _, at, status in rows))
    connection.execute("COMMIT")


def rows_of(body: bytes) -> Iterator[tuple[str, str, int, str]]:
    """Yield (order_id, event_id, at, status) of each event in a request."""
    request = ExportLogsServiceRequest.FromString(body)
    for record in request.resource_logs[0].scope_logs[0].log_records:
        found = {pair.key: pair.value.string_value for pair in record.attributes}
        yield found["order_id"], found["event_id"], record.time_unix_nano, found["to_status"]


def unfolded(store: SqliteStore, bodies: Sequence[bytes]) -> None:
    """Put the events of *bodies* at the end of their orders' rows, in one transaction, and fold nothing."""
    events = dict(pair for body in bodies for pair in events_of(body))
    with store.transaction() as tx:
        rows = []
        for order_id, found in tx.find(sorted(events)).items():
            order = unpack(found.state)
            order.events.append(events[order_id])
            rows.append((pack(order), found.place))
        store._writer.executemany("UPDATE orders SET state = ? WHERE place = ?", rows)


def events_of(body: bytes) -> Iterator[tuple[str, Kept]]:
    """Yield (order_id, event) of each record in a request."""
    request = ExportLogsServiceRequest.FromString(body)
    for record in request.resource_logs[0].scope_logs[0].log_records:
        found = {pair.key: pair.value for pair in record.attributes}
        yield (
            found["order_id"].string_value,
            Kept(
                id=bytes.fromhex(found["event_id"].string_value),
                kind=CHANGED,
                at=record.time_unix_nano,
                to=found["to_status"].string_value,
                left=found["from_status"].string_value,
                service=found["service"].string_value,
                partner=found["partner_id"].string_value if "partner_id" in found else None,
                trace_id=record.trace_id,
                span_id=record.span_id,
                duration=found["duration"].int_value,
            ),
        )


def hand_store(orders: Orders, path: Path) -> sqlite3.Connection:
    """Return a hand-written store in which *orders* wait."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in ("PRAGMA journal_mode = WAL", EVENTS, ORDERS, "PRAGMA synchronous = OFF", "BEGIN"):
        connection.execute(statement)
    for received in orders.so_far():
        rows = [(one.order_id, one.event.id.hex(), one.event.at, one.event.to) for one in received]
        connection.executemany(KEEP, rows)
        connection.executemany(MOVE, ((order_id, status, at) for order_id, _, at, status in rows))
    for statement in ("COMMIT", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA synchronous = FULL"):
        connection.execute(statement)
    return connection


def kept(batch: Batch, plan: Plan, bodies: Sequence[bytes]) -> None:
    """Keep the events of *bodies* as the ledger does: each read, all in one transaction."""
    reading = Reading(plan.lifecycle, "bench", LATER)
    for body in bodies:
        ingest.logs(ingest.decode_logs(body, reading, json=False), reading)
    results = batch.ingest(reading.received, seen=reading.seen, rejected=reading.rejected)
    if set(results) != {"accepted"}:
        raise RuntimeError(f"the benchmark's own events were not accepted: {set(results)}, {reading.reasons}")


def seconds_of(run: Callable[[], None]) -> float:
    """Return the CPU that *run* costs, in seconds."""
    before = time.process_time()
    run()
    return time.process_time() - before


@benchmark("ledger/ingest_sqlite", budget=20_000)
def ingest_sqlite(name: str, budget: float) -> Figure:
    """Measure the ledger beside two plain tables, batch by batch."""
    counts = "CPU of the one process, OTLP protobuf to commit, synchronous=FULL; ratio: cost over two plain tables"
    return _beside(name, _pairs(_plain_tables), budget, counts)


@benchmark("ledger/ingest_sqlite/unfolded", budget=2.5)
def ingest_unfolded(name: str, budget: float) -> Figure:
    """Measure the ledger beside the least that its own rows can cost, batch by batch."""
    counts = "CPU of the one process; ratio: cost over the same rows with nothing folded"
    found = _beside(name, _pairs(_own_rows), budget, counts)
    return msgspec.structs.replace(found, holds=found.ratio is not None and found.ratio <= budget)


@contextmanager
def _plain_tables(folder: Path) -> Iterator[Keeps]:
    with closing(hand_store(existing(), folder / "by_hand.db")) as connection:
        yield partial(by_hand, connection)


@contextmanager
def _own_rows(folder: Path) -> Iterator[Keeps]:
    with closing(SqliteStore(shutil.copy(filled(existing()), f"{folder}/unfolded.db"))) as store:
        yield partial(unfolded, store)


def _pairs(peer: Callable[[Path], AbstractContextManager[Keeps]]) -> list[tuple[float, float]]:
    """Return the seconds of each batch, in the ledger and in a *peer* that lies in a folder; the first one warms."""
    orders, folded_under = existing(), plan()
    made = filled(orders)
    batches = [requests(received) for received in orders.next(MEASURED)]
    with (
        tempfile.TemporaryDirectory(dir=made.parent) as folder,
        closing(SqliteStore(shutil.copy(made, folder))) as store,
        peer(Path(folder)) as theirs,
    ):
        ours = partial(kept, Batch(store, folded_under), folded_under)
        tune_garbage_collection()  # as `otel-orders ledger` does
        return [(seconds_of(partial(ours, some)), seconds_of(partial(theirs, some))) for some in batches][1:]


def _beside(name: str, pairs: Sequence[tuple[float, float]], budget: float, counts: str) -> Figure:
    """Return the figure of *pairs*: seconds of ours and of a peer for each batch.  budget: the fewest events/s."""
    ours, theirs = (BATCH * len(pairs) / sum(column) for column in zip(*pairs, strict=True))
    low, middle, high = statistics.quantiles([mine / peer for mine, peer in pairs], n=4)
    return Figure(
        name=name,
        value=ours,
        unit=f"events/s, {size():,} open orders",
        peer=theirs,
        ratio=middle,
        spread=(high - low) / 2 / middle,
        budget=budget,
        holds=ours >= budget,
        counts=counts,
    )
