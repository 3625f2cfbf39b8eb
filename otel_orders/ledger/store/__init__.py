"""Where the ledger keeps orders and totals: one Protocol, and the batch logic that every store shares.

A store only reads and writes rows inside a transaction; what a batch means is decided here, once.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from otel_orders import names
from otel_orders.ledger import apply, model
from otel_orders.ledger.kept import Kept, pack, unpack
from otel_orders.ledger.passing import Passing
from otel_orders.ledger.totals import Delta, Series, edges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from otel_orders.ledger.kept import Order


LIFECYCLE = "lifecycle_hash"
"""Key under which the store keeps the hash of the lifecycle that its orders are folded under."""
REBASED_AT_ONCE = 1000


class Found(NamedTuple):
    """An order's row as a transaction reads it.  place: where the store keeps it, for writing it back."""

    place: object
    state: bytes
    due_at: int


class Row(NamedTuple):
    """One order as the store is to hold it.

    place: of the Found that it replaces, None for a new order.  stage: the rank of its status, waiting_since: when it
    entered it, unix ns; both None when it waits for nobody any more.  due_at: the earliest time at which its timers
    must be looked at, unix ns, model.NEVER for none.  state: the packed Order.
    """

    order_id: str
    place: object
    stage: int | None
    waiting_since: int | None
    due_at: int
    state: bytes


class Seen(NamedTuple):
    """The last sign of life of one instance of a service; at: unix ns."""

    service: str
    instance: str
    role: str
    at: int
    lifecycle_hash: str


class MessageNote(NamedTuple):
    """What is known of one message in one queue whose messages are tracked.

    message_id: unique in its queue.  at: when it was published, or settled, unix ns.
    """

    queue: str
    message_id: str
    order_id: str
    at: int


class Transaction(Protocol):
    """What a store does inside one transaction."""

    def find(self, order_ids: Sequence[str]) -> dict[str, Found]:
        """Return the row of each of *order_ids* that exists, locked until the end of the transaction."""
        ...

    def due(self, now: int, limit: int) -> dict[str, Found]:
        """Return at most *limit* rows of orders whose due_at is at or before *now* (unix ns), soonest first, locked."""
        ...

    def create(self, rows: Sequence[Row]) -> None:
        """Write rows of new orders."""
        ...

    def change(self, rows: Sequence[Row]) -> None:
        """Write new contents of existing rows, due_at excepted."""
        ...

    def reschedule(self, rows: Sequence[Row]) -> None:
        """Write new contents of existing rows, due_at included."""
        ...

    def delete(self, rows: Sequence[Found]) -> None:
        """Forget orders."""
        ...

    def add(self, changes: Mapping[Series, int]) -> None:
        """Change totals."""
        ...

    def advance(self, moments: Mapping[Series, int]) -> dict[Series, int]:
        """Keep for each series the latest of the moments (unix ns) it was ever given; return those kept before."""
        ...

    def published(self, notes: Sequence[MessageNote]) -> None:
        """Note messages that wait in their queues; one that was settled before it was noted is not kept waiting."""
        ...

    def settled(self, notes: Sequence[MessageNote]) -> None:
        """Note messages that wait no more, also those whose publishing is not known yet."""
        ...

    def forget_messages(self, queue: str, before: int) -> int:
        """Forget what was published in *queue*, or settled, before *before* (unix ns); return how many waited."""
        ...

    def see(self, seen: Iterable[Seen]) -> None:
        """Note signs of life; an older one never replaces a newer one."""
        ...

    def put(self, key: str, value: str) -> None:
        """Keep *value* under *key* (settings of the store, offsets of followed files)."""
        ...

    def drop(self, key: str) -> None:
        """Forget what put() kept under *key*."""
        ...


class Store(Protocol):
    """What the ledger asks of a database.  Methods raise StoreUnavailableError when it does not answer."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Return a block that commits durably at its normal end, and leaves no trace otherwise."""
        ...

    def state(self, order_id: str) -> bytes | None:
        """Return the packed state of one order."""
        ...

    def all_ids(self, batch: int) -> Iterator[list[str]]:
        """Yield the ids of all orders, in lists of at most *batch*."""
        ...

    def scan(self, batch: int) -> Iterator[list[tuple[str, bytes]]]:
        """Yield (order_id, packed state) of all orders by id, in lists of at most *batch*, blocking no writer."""
        ...

    def totals(self) -> dict[Series, int]:
        """Return all totals."""
        ...

    def moments(self) -> dict[Series, int]:
        """Return all that advance() kept, unix ns."""
        ...

    def oldest_messages(self) -> dict[str, MessageNote]:
        """Return, by queue, the message that waits longest."""
        ...

    def oldest(self, stages: int) -> dict[int, int]:
        """Return when the first of the orders that wait at each rank below *stages* came there (unix ns)."""
        ...

    def longest_waiting(self, stage: int, limit: int) -> list[tuple[str, int]]:
        """Return (order_id, entered_at in unix ns) of the orders that wait longest at rank *stage*."""
        ...

    def seen(self) -> list[Seen]:
        """Return the last signs of life of all instances."""
        ...

    def get(self, key: str) -> str | None:
        """Return what put() kept under *key*."""
        ...

    def items(self, prefix: str) -> dict[str, str]:
        """Return all that put() kept under keys that start with *prefix*, by key in order."""
        ...

    def size(self) -> int:
        """Return the size of the store in bytes."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...


class Received(NamedTuple):
    """One event on its way into the store."""

    order_id: str
    event: Kept


class Batch:
    """Applies batches to a store under one lifecycle: each is one transaction."""

    def __init__(self, store: Store, plan: model.Plan) -> None:
        self._store = store
        self._plan = plan
        self._edges = edges(plan.lifecycle)

    def ingest(
        self,
        received: Sequence[Received],
        *,
        seen: Iterable[Seen] = (),
        rejected: Mapping[str, int] | None = None,
        notes: Mapping[str, str] | None = None,
        now: int | None = None,
    ) -> list[str]:
        """Keep *received* and return the result of each, durably, or raise StoreUnavailableError and keep nothing.

        rejected: how many events were refused before they came here, by result.  notes: kept in the same transaction.
        now: when they came, unix ns; None for the present.
        """
        results = [""] * len(received)
        delta, passing = Delta(self._edges), Passing(self._plan, time.time_ns() if now is None else now)
        by_order = _by_order(received)
        with self._store.transaction() as tx:
            found = tx.find(list(by_order))
            created: list[Row] = []
            changed: list[Row] = []
            sooner: list[Row] = []
            for order_id, places in by_order.items():
                before = found.get(order_id)
                order = unpack(before.state) if before else apply.empty_order()
                events = [received[place].event for place in places]
                was = order.fold.status, order.fold.entered_at
                taken = apply.take(order, events, self._plan, delta)
                passing.took(order_id, was, events, taken)
                for place, result in zip(places, taken, strict=True):
                    results[place] = result
                row = self._row(order_id, order, before)
                # A due_at that is too early costs one look at the order; moving it later each time costs an index.
                (created if before is None else sooner if row.due_at < before.due_at else changed).append(row)
            for result, count in (Counter(map(_public, results)) + Counter(rejected or {})).items():
                delta.add((names.LEDGER_EVENTS, result), count)
            tx.create(created)
            tx.change(changed)
            tx.reschedule(sooner)
            tx.add(delta.changes())
            seen = list(seen)
            tx.see(seen)
            _note(tx, passing, seen)
            for key, value in (notes or {}).items():
                tx.put(key, value)
        return results

    def sweep(self, now: int, limit: int = 1000) -> int:
        """Let the timers due by *now* (unix ns) happen, for *limit* orders at most; return for how many."""
        delta = Delta(self._edges)
        with self._store.transaction() as tx:
            due = tx.due(now, limit)
            rows: list[Row] = []
            for order_id, before in sorted(due.items()):
                order = unpack(before.state)
                apply.sweep(order, now, self._plan, delta)
                rows.append(self._row(order_id, order, before))
            tx.reschedule(rows)
            tx.add(delta.changes())
        return len(due)

    def rebase(self) -> None:
        """Fold every order anew under this batch's lifecycle; nothing that was counted is counted again.

        One transaction: until its end readers see, and a crash leaves, everything as it was under the old lifecycle.
        """
        with self._store.transaction() as tx:
            totals = self._store.totals()
            tx.add({series: -value for series, value in totals.items() if series[0] in model.STANDING})
            for some in self._store.all_ids(REBASED_AT_ONCE):
                delta = Delta(self._edges)
                rows = []
                for order_id, before in tx.find(some).items():
                    order = unpack(before.state)
                    apply.rebase(order, self._plan, delta)
                    rows.append(self._row(order_id, order, before))
                tx.reschedule(rows)
                tx.add(delta.changes())
            tx.put(LIFECYCLE, self._plan.lifecycle.hash)

    def _row(self, order_id: str, order: Order, before: Found | None) -> Row:
        fold = order.fold
        waits = fold.status is not None and fold.status not in self._plan.terminal
        return Row(
            order_id,
            before.place if before else None,
            self._plan.rank(fold.status) if waits and fold.status else None,
            fold.entered_at if waits else None,
            model.due_at(fold, order.swept_at, self._plan),
            pack(order),
        )


def _note(tx: Transaction, passing: Passing, seen: Iterable[Seen]) -> None:
    """Note what a batch tells beside its orders.  seen: only heartbeats name an instance."""
    for one in seen:
        if one.instance:
            passing.alive(one.service, one.role, one.at)
    if passing.moments:
        tx.advance(dict(sorted(passing.moments.items())))
    if passing.published:
        tx.published([MessageNote(*note) for note in passing.published])
    if passing.settled:
        tx.settled([MessageNote(*note) for note in passing.settled])


def _by_order(received: Sequence[Received]) -> dict[str, list[int]]:
    """Return the places of each order's events in *received*: orders sorted, for the locality of their rows."""
    places: dict[str, list[int]] = {}
    for place, (order_id, _) in enumerate(received):
        places.setdefault(order_id, []).append(place)
    return dict(sorted(places.items()))


def _public(result: str) -> str:
    """Return *result* as the metric has it."""
    return "rejected" if result == apply.FULL else result
