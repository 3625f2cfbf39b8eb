"""What the ledger's store takes: status events in batches, of random orders among many that are open.

The store with its open orders is made once and kept in the temporary folder.  ``ORDERS=200000`` says how many there
are; ``SIZE=full`` means a million, beside so many that have ended that all together have ten million events.
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
from otel_orders.ledger.model import Plan, Retention
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
OPEN = (
    *("INITIATED", "FILE_UPLOADED", "SUBMITTED", "PRICE_CALCULATED", "MANUFACTURING_APPROVED"),
    *("MANUFACTURING_STARTED", "MANUFACTURING_COMPLETED"),
)
WAY = (*OPEN, "PACKAGING", "SHIPPED", "CLOSED")


ENDED = 650_000
"""Orders that have ended, beside a million that are open: ten million events."""
KEPT_DAYS = 3650
"""A ledger that runs on the store must not remove orders that ended on the fixed day on which all happens here."""


def size() -> int:
    """Return how many orders are open."""
    return 1_000_000 if _is_full() else int(os.environ.get("ORDERS", "200000"))


def _is_full() -> bool:
    return os.environ.get("SIZE") == "full"


def plan() -> Plan:
    """Return what the orders are folded under."""
    return Plan(load_lifecycle(LIFECYCLE), Retention(orders=KEPT_DAYS * DAY))


class Orders:
    """*count* open orders, the same in every run, each somewhere on its way for up to ten days, and *ended* others.

    now: unix ns; may be set to another time before what comes next is asked for.
    """

    def __init__(self, count: int, now: int = NOW, ended: int = 0) -> None:
        self.now = now
        rng = random.Random(count)
        self._come = {str(uuid.UUID(int=rng.getrandbits(128))): rng.randrange(1, len(OPEN)) for _ in range(count)}
        self._ended = {str(uuid.UUID(int=rng.getrandbits(128))): len(WAY) for _ in range(ended)}
        self._rng = rng

    @property
    def name(self) -> str:
        """What tells them from others, in the name of a file."""
        return f"{len(self._come)}-{len(self._ended)}"

    def so_far(self) -> Iterator[list[Received]]:
        """Yield what happened to all of them, in batches; neighbours together, since only what comes next is timed."""
        steps = self._come | self._ended
        ids = sorted(steps)
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            yield [received for order_id in some for received in self._way(order_id, steps[order_id])]

    def next(self, batches: int) -> list[list[Received]]:
        """Return what happens next to random ones of those that are open, 20,000 in a second."""
        chosen = self._rng.sample(list(self._come), batches * BATCH)
        received = [
            self._received(order_id, self._come[order_id], self.now + place * 50_000)
            for place, order_id in enumerate(chosen)
        ]
        return [received[start : start + BATCH] for start in range(0, len(received), BATCH)]

    def _way(self, order_id: str, steps: int) -> Iterator[Received]:
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


def existing() -> Orders:
    """Return the orders that there are when something is measured."""
    return Orders(size(), ended=ENDED if _is_full() else 0)


def filled(orders: Orders) -> Path:
    """Return a store that holds *orders*, made on the first call."""
    kept = Path(tempfile.gettempdir()) / f"otel-orders-bench-{plan().lifecycle.hash}-{VERSION}-{orders.name}.db"
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            made = Path(folder) / "orders.db"
            store = SqliteStore(str(made))
            store._writer.execute("PRAGMA synchronous = OFF")  # it is not what is measured
            batch = Batch(store, plan())
            batch.rebase()  # of nothing: else the first ledger that runs on it would fold all orders anew
            for received in orders.so_far():
                batch.ingest(received)
            store.close()
            made.rename(kept)
    return kept


@benchmark("ledger/ingest_store", budget=20_000)
def ingest_store(name: str, budget: float) -> Figure:
    """Measure Batch.ingest alone: what is left of the budget for reading OTLP is the difference to ingest_sqlite."""
    orders = existing()
    kept = filled(orders)
    batches = orders.next(MEASURED)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        store = SqliteStore(shutil.copy(kept, folder))
        batch = Batch(store, plan())
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
        unit=f"events/s, {size():,} open orders",
        budget=budget,
        holds=rate >= budget,
        counts="CPU of the one process, commits with synchronous=FULL included",
    )
