"""Two ledgers on one store, through all that may happen to them, against the most obvious books that one could keep."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from otel_orders import names
from otel_orders.errors import StoreLifecycleError
from otel_orders.ledger import model, service
from otel_orders.ledger.apply import DUPLICATE
from otel_orders.ledger.model import Plan
from otel_orders.ledger.store import Batch, Received
from otel_orders.ledger.totals import Delta, edges
from tests.ledger import audit
from tests.ledger.reference import Truth, truth
from tests.ledger.strategies import AFTER, DAY, HOUR, MINUTE, PLAN, START, histories, plan_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from otel_orders.ledger.kept import Fact, Kept
    from otel_orders.ledger.totals import Series

PLANS = (PLAN, Plan(plan_of(AFTER).lifecycle, PLAN.retention))
REPLICAS = st.integers(0, 1)


class Books:
    """What was counted: each fact once, and what turned out wrong is owed to the next equal fact."""

    def __init__(self) -> None:
        self.events: dict[str, list[Kept]] = {}
        self.totals: Counter[Series] = Counter()
        self._facts: dict[str, Counter[Fact]] = {}
        self._owed: dict[str, Counter[Fact]] = {}

    def take(self, received: list[Received]) -> int:
        """Note what came; return how much of it was known."""
        known = 0
        for order_id, event in received:
            kept = self.events.setdefault(order_id, [])
            known += event in kept
            kept.extend([event] if event not in kept else [])
        return known

    def settle(self, order_id: str, now: Truth, plan: Plan) -> None:
        before, owed = self._facts.get(order_id, Counter()), self._owed.get(order_id, Counter())
        owed += before - now.facts
        new = now.facts - before
        delta = Delta(edges(plan.lifecycle))
        delta.count((new - owed).elements())
        self.totals.update(delta.changes())
        self._facts[order_id], self._owed[order_id] = now.facts, owed - new

    def rebase(self, order_id: str, now: Truth) -> None:
        """Another lifecycle: nothing is counted, and nothing is owed, that was not before."""
        self._facts[order_id] = now.facts


class SideBySide(RuleBasedStateMachine):
    def __init__(self, new_place: Callable[[], AbstractContextManager[str]]) -> None:
        super().__init__()
        self.opened = ExitStack()
        self.url = self.opened.enter_context(new_place())
        self.stores = [service.open_store(self.url) for _ in range(2)]
        self.plans = [PLAN, PLAN]
        self.plan = PLAN
        self.books = Books()
        self.now = START
        self.received = 0
        self.duplicates = 0

    def teardown(self) -> None:
        for store in self.stores:
            store.close()
        self.opened.close()

    def batch(self, replica: int) -> Batch:
        return Batch(self.stores[replica], self.plans[replica])

    @initialize(lives=st.lists(histories(8), min_size=1, max_size=4))
    def _orders(self, lives: list[list[Kept]]) -> None:
        self.batch(0).rebase()
        self.lives = [Received(f"order-{place}", one) for place, life in enumerate(lives) for one in life]

    def drawn(self, data: st.DataObject) -> list[Received]:
        """Draw what comes next: some of all that happened, in any order, also what came before."""
        some: list[Received] = data.draw(st.lists(st.sampled_from(self.lives), min_size=1, max_size=8))
        return some

    @rule(replica=REPLICAS, data=st.data())
    def ingest(self, replica: int, data: st.DataObject) -> None:
        received = self.drawn(data)
        if self.plans[replica] is not self.plan:
            with pytest.raises(StoreLifecycleError, match="start it again"):
                self.batch(replica).ingest(received)
            return
        results = self.batch(replica).ingest(received)
        known = self.books.take(received)
        assert results.count(DUPLICATE) == known
        self.note(len(received), known)

    @rule(data=st.data())
    def both_are_sent_the_same_at_once(self, data: st.DataObject) -> None:
        if self.plans != [self.plan, self.plan]:
            return
        received = self.drawn(data)
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda replica: self.batch(replica).ingest(received), range(2)))
        known = self.books.take(received)
        assert sum(one.count(DUPLICATE) for one in results) == known + len(received)
        self.note(2 * len(received), known + len(received))

    @rule(replica=REPLICAS, later=st.sampled_from((0, MINUTE, HOUR, DAY, 30 * DAY)), limit=st.integers(1, 3))
    def sweep_once(self, replica: int, later: int, limit: int) -> None:
        if self.plans[replica] is self.plan:
            self.now += later
            assert self.batch(replica).sweep(self.now, limit) <= limit
            self.settle()

    @rule(replica=REPLICAS, later=st.sampled_from((0, MINUTE, HOUR, DAY)))
    def sweep_all(self, replica: int, later: int) -> None:
        if self.plans[replica] is self.plan:
            self.now += later
            while self.batch(replica).sweep(self.now, 2):
                pass
            self.settle(self.now)

    @rule(replica=REPLICAS)
    def restart(self, replica: int) -> None:
        self.stores[replica].close()
        self.stores[replica] = service.open_store(self.url)

    @rule(replica=REPLICAS, plan=st.sampled_from(PLANS))
    def start_with(self, replica: int, plan: Plan) -> None:
        """Start a replica with a lifecycle that may be another one: as `_claim` does."""
        self.plans[replica] = plan
        self.batch(replica).rebase()
        if plan is not self.plan:
            self.plan = plan
            for order_id, true in self.truths().items():
                self.books.rebase(order_id, true)

    def note(self, received: int, duplicates: int) -> None:
        self.received += received
        self.duplicates += duplicates
        self.settle()

    def truths(self, now: int | None = None) -> dict[str, Truth]:
        """Return what is true of each order; now: where all timers were looked at up to then, else each order's own."""
        orders = audit.orders(self.stores[0])
        assert {order_id: {one.id for one in order.events} for order_id, order in orders.items()} == {
            order_id: {one.id for one in some} for order_id, some in self.books.events.items()
        }
        return {
            order_id: truth(events, now or orders[order_id].swept_at, self.plan)
            for order_id, events in self.books.events.items()
        }

    def settle(self, now: int | None = None) -> None:
        for order_id, true in self.truths(now).items():
            self.books.settle(order_id, true, self.plan)

    @invariant()
    def each_replica_shows_what_the_books_say(self) -> None:
        truths = self.truths()
        standing = Counter[Any](fact for true in truths.values() for fact in true.standing)
        for store in self.stores:
            assert audit.totals(store) == {series: count for series, count in self.books.totals.items() if count}
            assert audit.totals(store, model.STANDING) == standing
            folds = {order_id: order.fold for order_id, order in audit.orders(store).items()}
            assert {key: (fold.status, fold.entered_at) for key, fold in folds.items()} == {
                key: (true.status, true.entered_at) for key, true in truths.items()
            }
            events = audit.totals(store, {names.LEDGER_EVENTS})
            assert sum(events.values()) == self.received
            assert events.get((names.LEDGER_EVENTS, DUPLICATE), 0) == self.duplicates
        audit.check_waiting(self.stores[1], audit.orders(self.stores[1]), self.plan)


@pytest.mark.no_cover
@pytest.mark.slow
def test_whatever_happens_both_replicas_show_what_the_events_say(
    new_place: Callable[[], AbstractContextManager[str]],
) -> None:
    run_state_machine_as_test(
        lambda: SideBySide(new_place),  # type: ignore[arg-type]  # it takes any function that makes one
        settings=settings(
            max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
