"""Where the ledger keeps orders and totals: one Protocol, and the batch logic that every store shares.

A store only reads and writes rows inside a transaction; what a batch means is decided here, once.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from otel_orders import names
from otel_orders.ledger import apply, model, removals
from otel_orders.ledger.courtesy import lookups
from otel_orders.ledger.kept import pack, readable
from otel_orders.ledger.passing import Passing
from otel_orders.ledger.proofs import Proofs
from otel_orders.ledger.removals import SENT, Import
from otel_orders.ledger.store.protocol import (
    Access,
    Found,
    Message,
    MessageNote,
    Received,
    Row,
    Seen,
    Store,
    Transaction,
    Waiting,
)
from otel_orders.ledger.store.replicas import agree, tried_again
from otel_orders.ledger.tombstones import Tombstones
from otel_orders.ledger.totals import Delta, ErrorCodes, edges

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otel_orders.ledger.kept import Order

__all__ = [
    "LIFECYCLE",
    "RETENTION",
    "Access",
    "Batch",
    "Found",
    "Message",
    "MessageNote",
    "Received",
    "Row",
    "Seen",
    "Store",
    "Transaction",
    "Waiting",
    "row_of",
]

LIFECYCLE = "lifecycle_hash"
"""Key under which the store keeps the hash of the lifecycle that its orders are folded under."""
RETENTION = "retention"
"""Key under which the store keeps the retention that its orders' due times were made with."""
WRITTEN = "written_at"
"""Key under which a ledger writes to see whether it can."""
REBASED_AT_ONCE = 1000
TIDIED_EVERY = 3_600_000_000_000
FORGOTTEN_AFTER = 7 * model.DAY
"""How long an instance that gives no sign of life is remembered, in ns."""


class Batch:
    """Applies batches to a store under one lifecycle: each is one transaction.

    Raises StoreLifecycleError, and changes nothing, once the orders are folded under another one.
    """

    def __init__(self, store: Store, plan: model.Plan) -> None:
        self._store = store
        self._plan = plan
        self._edges = edges(plan.lifecycle)
        self._codes = ErrorCodes(store.items)
        self._tombstones = Tombstones(store.get, store.items)
        self._tidied_at = 0

    @tried_again
    def ingest(
        self,
        received: Sequence[Received],
        *,
        seen: Sequence[Seen] = (),
        rejected: Mapping[str, int] | None = None,
        notes: Mapping[str, str] | None = None,
        now: int | None = None,
        imported: Import = SENT,
    ) -> list[str]:
        """Keep *received* and return the result of each, durably, or raise StoreUnavailableError and keep nothing.

        rejected: how many events were refused before they came here, by result.  notes: kept in the same transaction.
        now: when they came, unix ns; None for the present.  imported: what is to be known of them where no sender sent
        them.
        """
        results = [apply.LATE] * len(received)
        delta, passing = Delta(self._edges), Passing(self._plan, time.time_ns() if now is None else now)
        by_order = _by_order(received)
        with self._store.transaction() as tx:
            found = tx.find(list(by_order))
            agree(tx.get(LIFECYCLE), self._plan)
            erased = self._tombstones.among(order_id for order_id in by_order if order_id not in found)
            _leave_out_late(by_order, found, received, imported._replace(ended=imported.ended - erased.keys()))
            created: list[Row] = []
            changed: list[Row] = []
            sooner: list[Row] = []
            for order_id, places in by_order.items():
                lookups.give_way()
                before = found.get(order_id)
                order = apply.sound(before.state, self._plan) if before else apply.empty_order()
                events = [received[place].event for place in places]
                if order is None or order_id in erased:
                    taken = [apply.UNREADABLE if order is None else apply.ERASED] * len(events)
                    sooner += _counted_as_rotten(order_id, before if order is None else None, delta)
                else:
                    was = order.fold.status, order.fold.entered_at
                    taken = apply.take(order, events, self._plan, delta)
                    apply.imported(order, taken, imported.at)
                    passing.took(order_id, was, events, taken)
                    row = row_of(order_id, order, before, self._plan)
                    # A due_at too early costs one look at the order; moving it later each time costs an index.
                    (created if before is None else sooner if row.due_at < before.due_at else changed).append(row)
                for place, result in zip(places, taken, strict=True):
                    results[place] = result
            for result, count in (Counter(map(_public, results)) + Counter(rejected or {})).items():
                delta.add((names.LEDGER_EVENTS, result), count)
            tx.create(created)
            tx.change(changed)
            tx.reschedule(sooner)
            tx.add(self._codes.bounded(delta.changes(), tx.put))
            tx.see(seen)
            _note(tx, passing, seen)
            for key, value in (notes or {}).items():
                tx.put(key, value)
        return results

    def swept_elsewhere(self) -> int | None:
        """Return when another replica that still sweeps last did (unix ns), None where it is ours to do."""
        return self._store.swept_elsewhere()

    def write_something(self) -> None:
        """Find out whether the store can be written: a transaction that changes nothing succeeds on a full disk."""
        with self._store.transaction() as tx:
            tx.put(WRITTEN, str(time.time_ns()))

    @tried_again
    def sweep(self, now: int, limit: int = 1000) -> int:
        """Let the timers due by *now* (unix ns) happen, for *limit* orders at most; return for how many."""
        delta = Delta(self._edges)
        with self._store.transaction() as tx:
            due = tx.due(now, limit)
            agree(tx.get(LIFECYCLE), self._plan)
            rows: list[Row] = []
            gone: list[Found] = []
            removed: list[Order] = []
            for order_id, before in sorted(due.items()):
                lookups.give_way()
                order = apply.sound(before.state, self._plan)
                if order is None:
                    rows += _counted_as_rotten(order_id, before, delta)
                    continue
                apply.sweep(order, now, self._plan, delta)
                if apply.removed_at(order, self._plan) <= now:
                    apply.remove(order, self._plan, delta)
                    gone.append(before)
                    removed.append(order)
                else:
                    rows.append(row_of(order_id, order, before, self._plan))
            tx.reschedule(rows)
            tx.delete(gone)
            delta.add((names.REMOVED, "retention"), len(gone))
            if removed and (span := removals.with_more(tx.get(removals.KEY), removed)):
                tx.put(removals.KEY, span)
            tx.add(self._codes.bounded(delta.changes(), tx.put))
            self._tidy(tx, now)
            tx.swept(now)
        return len(due)

    @tried_again
    def rebase(self) -> None:
        """Fold every order anew under this batch's lifecycle; nothing that was counted is counted again.

        One transaction: until its end readers see, and a crash leaves, everything as it was under the old lifecycle.
        Other replicas write nothing meanwhile, and of several that start with the new lifecycle one folds.
        """
        with self._store.transaction() as tx:
            tx.alone()
            if (tx.get(LIFECYCLE), tx.get(RETENTION)) == (self._plan.lifecycle.hash, self._plan.retention.text()):
                return
            totals = self._store.totals()
            tx.add({series: -value for series, value in totals.items() if series[0] in model.STANDING})
            proofs = Proofs(self._plan, self._codes)
            for some in self._store.all_ids(REBASED_AT_ONCE):
                delta = Delta(self._edges)
                rows = []
                for order_id, before in tx.find(some).items():
                    order = readable(before.state)
                    if order is None:
                        rows += _counted_as_rotten(order_id, before, delta)
                        continue
                    apply.rebase(order, self._plan, delta)
                    proofs.add(order)
                    rows.append(row_of(order_id, order, before, self._plan))
                tx.reschedule(rows)
                tx.add(delta.changes())
            tx.add(proofs.uncarried(totals))
            tx.put(LIFECYCLE, self._plan.lifecycle.hash)
            tx.put(RETENTION, self._plan.retention.text())

    def _tidy(self, tx: Transaction, now: int) -> None:
        """Forget, once an hour, what nobody asks for any more beside orders."""
        if now < self._tidied_at + TIDIED_EVERY:
            return
        self._tidied_at = now
        tx.forget_instances(now - FORGOTTEN_AFTER)
        old = now - self._plan.retention.orders
        for queue in self._plan.lifecycle.queues:
            tx.forget_messages(queue, old)
        tx.forget_elsewhere(self._plan.lifecycle.queues, old)


def row_of(order_id: str, order: Order, before: Found | None, plan: model.Plan) -> Row:
    """Return the row that holds *order* and replaces *before*."""
    fold = order.fold
    waits = fold.status is not None and fold.status not in plan.terminal
    return Row(
        order_id,
        before.place if before else None,
        plan.rank(fold.status) if waits and fold.status else None,
        fold.entered_at if waits else None,
        apply.due_at(order, plan),
        pack(order),
    )


def _counted_as_rotten(order_id: str, before: Found | None, delta: Delta) -> list[Row]:
    """Return the row that a rotten one becomes, which nobody looks at again (the check names it), and count it once."""
    if before is None or before.due_at == model.NEVER_AGAIN:
        return []
    delta.add((names.UNREADABLE,), 1)
    return [Row(order_id, before.place, None, None, model.NEVER_AGAIN, before.state)]


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


def _leave_out_late(
    by_order: dict[str, list[int]], found: Mapping[str, Found], received: Sequence[Received], imported: Import
) -> None:
    """Take the events out of *by_order* that may have been counted for an order that was removed."""
    for order_id in imported.ended & by_order.keys():
        before = found.get(order_id)
        if before is None or ((order := readable(before.state)) and imported.lacks_removed(order)):
            by_order[order_id] = [place for place in by_order[order_id] if received[place].event.at > imported.until]
            if not by_order[order_id]:
                del by_order[order_id]


def _public(result: str) -> str:
    """Return *result* as the metric has it."""
    return "rejected" if result in (apply.FULL, apply.UNREADABLE) else result
