"""Compare what a store holds with what its orders' own events say."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from otel_orders import names
from otel_orders.ledger import model
from otel_orders.ledger.kept import unpack
from otel_orders.ledger.totals import CARRIED, Delta, edges
from tests.ledger.reference import truth

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from otel_orders.ledger.kept import Kept, Order
    from otel_orders.ledger.model import Plan
    from otel_orders.ledger.store import Store
    from otel_orders.ledger.totals import Series

COUNTED = frozenset((names.TIME_IN_STATUS, names.MILESTONE, names.REACHED, names.SLA_MET, names.SLA_BREACHED))


def orders(store: Store) -> dict[str, Order]:
    ids = [order_id for some in store.all_ids(3) for order_id in some]
    return {order_id: unpack(store.state(order_id) or b"") for order_id in ids}


def totals(store: Store, metrics: Collection[str] = COUNTED) -> dict[Series, int]:
    """Return the totals of *metrics* that are not 0."""
    return {series: value for series, value in store.totals().items() if str(series[0]) in metrics and value}


def counters(store: Store) -> Counter[Series]:
    return Counter({s: value for s, value in store.totals().items() if s[0] not in {*model.STANDING, CARRIED}})


def check(store: Store, events: Mapping[str, Iterable[Kept]], plan: Plan, now: int | None = None) -> None:
    """Check that *store* holds *events*, and that its totals are what they say.

    now: unix ns, where all timers have been looked at up to then; else each order's own.
    """
    kept = orders(store)
    assert {order_id: {one.id for one in order.events} for order_id, order in kept.items()} == {
        order_id: {one.id for one in some} for order_id, some in events.items()
    }
    counted, standing = Delta(edges(plan.lifecycle)), Counter[tuple[str | int, ...]]()
    for order in kept.values():
        true = truth(order.events, now or order.swept_at, plan)
        assert (order.fold.status, order.fold.entered_at) == (true.status, true.entered_at)
        counted.count((true.facts + Counter(order.debt)).elements())
        standing.update(true.standing)
    assert totals(store) == {series: count for series, count in counted.changes().items() if count}
    assert totals(store, model.STANDING) == standing
    check_waiting(store, kept, plan)


def check_waiting(store: Store, kept: Mapping[str, Order], plan: Plan) -> None:
    """Check that what waits is found by its stage, oldest first."""
    ranks = len(plan.lifecycle.statuses) + 1
    waiting: dict[int, list[tuple[str, int]]] = {}
    for order_id, order in kept.items():
        if order.fold.status is not None and order.fold.status not in plan.terminal:
            waiting.setdefault(plan.rank(order.fold.status), []).append((order_id, order.fold.entered_at))
    assert store.oldest(ranks) == {rank: min(since for _, since in some) for rank, some in waiting.items()}
    for rank in range(ranks):
        found = store.longest_waiting(rank, 1000)
        assert sorted((one.order_id, one.since) for one in found) == sorted(waiting.get(rank, []))
        assert [one.since for one in found] == sorted(one.since for one in found)
        assert all(one.state == store.state(one.order_id) for one in found)
        for middle in found[len(found) // 2 :][:1]:
            later = store.longest_waiting(rank, 1000, middle.since)
            assert sorted(later) == sorted(one for one in found if one.since >= middle.since)
