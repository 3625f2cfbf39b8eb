"""What the ledger's store takes: status events in batches, of random orders among many that are open.

The store with its open orders is made once and kept in the temporary folder.  ``ORDERS=200000`` says how many there
are; ``SIZE=full`` means a million.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from otel_orders.ledger.kept import CHANGED, Kept
from otel_orders.ledger.model import Plan
from otel_orders.ledger.store import Batch, Received
from otel_orders.ledger.store.sqlite import SqliteStore
from otel_orders.ledger.store.sqlite_schema import VERSION
from otel_orders.lifecycle import load_lifecycle
from tests.benchmarks.harness import Figure, benchmark

if TYPE_CHECKING:
    from collections.abc import Iterator

LIFECYCLE = Path(__file__).parents[2] / "examples/order_pipeline/lifecycle.yaml"
BATCH = 2_000
MEASURED = 40
"""Batches; enough that the log is folded into the file several times."""
DAY = 86_400 * 10**9
NOW = 1_767_603_600 * 10**9
WAY = (
    *("INITIATED", "FILE_UPLOADED", "SUBMITTED", "PRICE_CALCULATED", "MANUFACTURING_APPROVED"),
    *("MANUFACTURING_STARTED", "MANUFACTURING_COMPLETED"),
)


def size() -> int:
    """Return how many orders are open."""
    return 1_000_000 if os.environ.get("SIZE") == "full" else int(os.environ.get("ORDERS", "200000"))


class Orders:
    """*count* open orders, the same in every run, each somewhere on its way for up to ten days.

    now: unix ns; may be set to another time before what comes next is asked for.
    """

    def __init__(self, count: int, now: int = NOW) -> None:
        self.now = now
        rng = random.Random(count)
        self._come = {str(uuid.UUID(int=rng.getrandbits(128))): rng.randrange(1, len(WAY)) for _ in range(count)}
        self._rng = rng

    def so_far(self) -> Iterator[list[Received]]:
        """Yield what happened to all of them, in batches; neighbours together, since only what comes next is timed."""
        ids = sorted(self._come)
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            yield [received for order_id in some for received in self._way(order_id)]

    def next(self, batches: int) -> list[list[Received]]:
        """Return what happens next to random ones of them, 20,000 in a second."""
        chosen = self._rng.sample(list(self._come), batches * BATCH)
        received = [
            self._received(order_id, self._come[order_id], self.now + place * 50_000)
            for place, order_id in enumerate(chosen)
        ]
        return [received[start : start + BATCH] for start in range(0, len(received), BATCH)]

    def _way(self, order_id: str) -> Iterator[Received]:
        steps = self._come[order_id]
        times = sorted(self.now - self._rng.randrange(1, 10 * DAY) for _ in range(steps))
        return (self._received(order_id, step, at) for step, at in enumerate(times))

    def _received(self, order_id: str, step: int, at: int) -> Received:
        kept = Kept(
            id=self._rng.randbytes(16),
            kind=CHANGED,
            at=at,
            to=WAY[step],
            left=WAY[step - 1] if step else None,
            service="mes-api",
            partner=("acme", None, "some-shop")[len(WAY[step]) % 3],
            trace_id=self._rng.randbytes(16),
            span_id=self._rng.randbytes(8),
            duration=self._rng.randrange(10**8),
        )
        return Received(order_id, kept)


def filled(orders: Orders, count: int, plan: Plan) -> Path:
    """Return a store in which *orders* wait, made on the first call."""
    kept = Path(tempfile.gettempdir()) / f"otel-orders-bench-{plan.lifecycle.hash}-{VERSION}-{count}.db"
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            made = Path(folder) / "orders.db"
            store = SqliteStore(str(made))
            store._writer.execute("PRAGMA synchronous = OFF")  # it is not what is measured
            for received in orders.so_far():
                Batch(store, plan).ingest(received)
            store.close()
            made.rename(kept)
    return kept


@benchmark("ledger/ingest_store", budget=20_000)
def ingest_store(name: str, budget: float) -> Figure:
    """Measure Batch.ingest alone: what is left of the budget for reading OTLP is the difference to ingest_sqlite."""
    count, plan = size(), Plan(load_lifecycle(LIFECYCLE))
    orders = Orders(count)
    kept = filled(orders, count, plan)
    batches = orders.next(MEASURED)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        store = SqliteStore(shutil.copy(kept, folder))
        batch = Batch(store, plan)
        batch.ingest(batches[0])
        gc.collect()
        gc.freeze()  # the events to come are ours, not the ledger's
        before = time.process_time()
        for received in batches[1:]:
            batch.ingest(received)
        seconds = time.process_time() - before
        gc.unfreeze()
        store.close()
    rate = (MEASURED - 1) * BATCH / seconds
    return Figure(
        name=name,
        value=rate,
        unit=f"events/s, {count:,} open orders",
        budget=budget,
        holds=rate >= budget,
        counts="CPU of the one process, commits with synchronous=FULL included",
    )
