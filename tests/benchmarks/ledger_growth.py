"""How a ledger's cost grows with the orders that are open, the events of each, and the partners that send them.

Each axis is a table over sizes; its figure is what taking in an event costs at the largest size, over the smallest.
``SIZE=full`` goes on to a million orders.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from otel_orders.ledger.kept import CHANGED, Kept, unpack
from otel_orders.ledger.metrics import LedgerCollector
from otel_orders.ledger.model import Plan
from otel_orders.ledger.store import Batch, Received
from otel_orders.ledger.store.sqlite import SqliteStore
from otel_orders.ledger.story import story
from otel_orders.lifecycle import load_lifecycle
from tests.benchmarks.harness import Figure, benchmark
from tests.benchmarks.ledger_ingest import BATCH, LIFECYCLE, NOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NEXT = 4_000
"""Events that are timed as they come: the newest of random orders."""
LATE = 500
"""Events that are timed as they come late: each is put into its order's history."""
ASKED = 200
"""Orders whose story is read, and pages of metrics that are made."""
MINUTE = 60 * 10**9
WAY = ("INITIATED", "FILE_UPLOADED", "SUBMITTED", "PRICE_REJECTED")
"""An order that is rejected goes round again, so its history can be of any length."""


class Size(NamedTuple):
    """How much there is.  events: of each order, before those that are timed."""

    orders: int = 10_000
    events: int = 5
    partners: int = 3


class Cost(NamedTuple):
    """CPU of the one process: us an event and a story, ms a page; bytes of the store's file for each order."""

    newest: float
    late: float
    looked_up: float
    scraped: float
    kept: float


class Orders:
    """The open orders of one size, and what comes next to them."""

    def __init__(self, size: Size) -> None:
        self._size = size
        self._rng = random.Random(repr(size))

    def so_far(self) -> Iterator[list[Received]]:
        """Yield what happened to all of them, neighbours together: how they came is not timed."""
        some: list[Received] = []
        for number in range(self._size.orders):
            some += [self.event(number, step) for step in range(self._size.events)]
            if len(some) >= BATCH:
                yield some
                some = []
        yield some

    def some(self, count: int) -> list[int]:
        """Return *count* random ones."""
        return [self._rng.randrange(self._size.orders) for _ in range(count)]

    def event(self, number: int, step: int, late: int = 0) -> Received:
        """Return the *step*-th event of an order, a minute after the one before, less *late* (ns)."""
        return Received(
            self.order_id(number),
            Kept(
                id=self._rng.randbytes(16),
                kind=CHANGED,
                at=NOW + step * MINUTE - late,
                to=WAY[step % 4 if step < 4 else 1 + (step - 1) % 3],
                left=None,
                service="mes-api",
                partner=f"partner-{number % self._size.partners}",
                trace_id=self._rng.randbytes(16),
                span_id=self._rng.randbytes(8),
                duration=self._rng.randrange(10**8),
            ),
        )

    @staticmethod
    def order_id(number: int) -> str:
        """Return an id whose neighbours are elsewhere, as random ids are."""
        return f"{number * 2_654_435_761 % 2**32:08x}-order"


def cost(size: Size) -> Cost:
    """Fill a store to *size*, and measure it."""
    orders, plan = Orders(size), Plan(load_lifecycle(LIFECYCLE))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "orders.db"
        with closing(SqliteStore(str(path))) as store:
            store._writer.execute("PRAGMA synchronous = OFF")  # the disk is not what grows
            batch = Batch(store, plan)
            for received in orders.so_far():
                batch.ingest(received)
            store._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return _measured(orders, size, store, plan, path)


def _measured(orders: Orders, size: Size, store: SqliteStore, plan: Plan, path: Path) -> Cost:
    batch, page = Batch(store, plan), LedgerCollector(store, plan).page
    newest = list(dict.fromkeys(orders.some(NEXT)))
    late = list(dict.fromkeys(orders.some(LATE)))
    asked = [orders.order_id(number) for number in orders.some(ASKED)]
    kept = path.stat().st_size / size.orders
    return Cost(
        _each(batch, [orders.event(one, size.events) for one in newest]),
        _each(batch, [orders.event(one, size.events - 1, MINUTE // 2) for one in late]),
        statistics.median(_seconds(lambda: _story(store, plan, one)) for one in asked) * 1e6,  # noqa: B023 - run at once
        statistics.median(_seconds(page) for _ in range(ASKED // 10)) * 1e3,
        kept,
    )


def _each(batch: Batch, received: list[Received]) -> float:
    """Return what taking in one of *received* costs, in us."""
    return _seconds(lambda: batch.ingest(received)) / len(received) * 1e6


def _story(store: SqliteStore, plan: Plan, order_id: str) -> None:
    state = store.state(order_id)
    if state is None:
        raise RuntimeError("the benchmark's own order is missing")
    story(order_id, unpack(state), plan, NOW)


def _seconds(run: Callable[[], object]) -> float:
    before = time.process_time()
    run()
    return time.process_time() - before


def _grown(name: str, budget: float, sizes: list[Size]) -> Figure:
    costs = [cost(size) for size in sizes]
    heads = (*Size._fields, "us newest", "us late", "us story", "ms page", "bytes an order")
    sys.stderr.write(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}\n")
    for size, found in zip(sizes, costs, strict=True):
        sys.stderr.write(f"| {' | '.join([f'{n:,}' for n in size] + [f'{n:,.1f}' for n in found])} |\n")
    first, last = costs[0].newest, costs[-1].newest
    return Figure(
        name=name,
        value=last,
        unit=f"us an event, {sizes[-1]}",
        peer=first,
        ratio=last / first,
        budget=budget,
        holds=last / first <= budget,
        counts=f"CPU of the one process; peer: {sizes[0]}",
    )


@benchmark("ledger/growth/orders", budget=2)
def orders(name: str, budget: float) -> Figure:
    """Measure ten and a hundred times as many open orders."""
    full = [Size(orders=1_000_000)] if os.environ.get("SIZE") == "full" else []
    return _grown(name, budget, [Size(orders=2_000), Size(orders=20_000), Size(orders=200_000), *full])


@benchmark("ledger/growth/events", budget=50)
def events(name: str, budget: float) -> Figure:
    """Measure longer histories, up to near the most that an order keeps."""
    return _grown(name, budget, [Size(2_000, events) for events in (5, 50, 500)])


@benchmark("ledger/growth/partners", budget=1.5)
def partners(name: str, budget: float) -> Figure:
    """Measure many partners, few of which are named in the lifecycle."""
    return _grown(name, budget, [Size(partners=partners) for partners in (3, 300, 10_000)])
