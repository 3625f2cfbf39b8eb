"""Let events and time happen to an order.  Pure: takes the order out of its row and leaves it ready to be put back.

What was counted for an order is always: the facts of its fold, plus its debt.  Each function here keeps that so.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from otel_orders import names
from otel_orders.ledger import model
from otel_orders.ledger.chain import chains
from otel_orders.ledger.kept import CHANGED, FAILED, MESSAGE, OBSERVED, Fact, Fold, Kept, Order

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from otel_orders.ledger.model import Plan
    from otel_orders.ledger.totals import Delta

MAX_EVENTS: Final = 1000
"""Events kept of one order."""
MAX_OTHER: Final = 500
"""Of these, events that move nothing (failures, messages): a poison message must not fill an order's history."""

ACCEPTED: Final = "accepted"
DUPLICATE: Final = "duplicate"
ILLEGAL: Final = "illegal"
SKIPPED: Final = "skipped"
UNKNOWN_STATUS: Final = "unknown_status"
NEGATIVE_DURATION: Final = "negative_duration"
FULL: Final = "order_full"


def take(order: Order, events: Sequence[Kept], plan: Plan, delta: Delta) -> list[str]:
    """Add *events* to *order*, add to *delta* what that changes, and return the result of each event."""
    before = model.standing(order.fold, order.swept_at, plan)
    known = {event.id for event in order.events}
    facts = model.Facts()
    late: list[Kept] = []
    results: list[str] = []
    for event in events:
        result = DUPLICATE if event.id in known else _result(order, event, plan, len(late))
        results.append(result)
        if result in (DUPLICATE, FULL):
            continue
        known.add(event.id)
        if event.kind in (FAILED, MESSAGE):
            order.events.append(event)
        elif not late and model.is_newest(order.fold, event):
            model.step(order.fold, event, event.at, plan, facts, chains=chains(event, order.fold.status))
            order.events.append(event)
        else:
            late.append(event)
    model.sweep(order.fold, order.swept_at, plan, facts)
    _settle(order, Counter(facts.added), Counter(facts.withdrawn), delta)
    if late:
        _refold(order, late, plan, delta)
    delta.become(before, model.standing(order.fold, order.swept_at, plan))
    return results


def sweep(order: Order, now: int, plan: Plan, delta: Delta) -> None:
    """Look at the timers of *order* up to *now* (unix ns)."""
    before = model.standing(order.fold, order.swept_at, plan)
    order.swept_at = max(order.swept_at, now)
    facts = model.Facts()
    model.sweep(order.fold, order.swept_at, plan, facts)
    _settle(order, Counter(facts.added), Counter(facts.withdrawn), delta)
    delta.become(before, model.standing(order.fold, order.swept_at, plan))


def rebase(order: Order, plan: Plan, delta: Delta) -> None:
    """Fold *order* anew under another lifecycle; *delta* gets its standing, and nothing is counted again."""
    order.fold, _ = model.folded(order.events, order.swept_at, plan)
    delta.become(set(), model.standing(order.fold, order.swept_at, plan))


def empty_order() -> Order:
    """Return an order before its first event."""
    return Order(Fold())


def _refold(order: Order, late: list[Kept], plan: Plan, delta: Delta) -> None:
    _, before = model.folded(order.events, order.swept_at, plan)
    order.events.extend(late)
    order.fold, after = model.folded(order.events, order.swept_at, plan)
    counted, due = Counter(before.added), Counter(after.added)
    _settle(order, due - counted, counted - due, delta)


def _settle(order: Order, added: Counter[Fact], withdrawn: Counter[Fact], delta: Delta) -> None:
    """Count *added*, except what is owed; owe *withdrawn*, since counters never go down."""
    if order.debt or withdrawn:
        owed = Counter(order.debt)
        owed.update(withdrawn)
        for fact, times in withdrawn.items():
            delta.add((names.CORRECTIONS, str(fact[0])), times)
        added, paid = added - owed, added & owed
        order.debt = list((owed - paid).elements())
    delta.count(added.elements())


def _result(order: Order, event: Kept, plan: Plan, waiting: int) -> str:
    if _is_full(order, event, waiting):
        return FULL
    if event.kind not in (CHANGED, OBSERVED):
        return ACCEPTED if event.kind == MESSAGE or plan.lifecycle.status(event.to) else UNKNOWN_STATUS
    legality = plan.lifecycle.move(event.left, event.to)
    if legality != "legal":
        return legality
    fold = order.fold
    negative = event.left is not None and event.left == fold.status and event.at < fold.entered_at
    return NEGATIVE_DURATION if negative else ACCEPTED


def _is_full(order: Order, event: Kept, waiting: int) -> bool:
    kept: Iterable[Kept] = order.events
    if event.kind in (FAILED, MESSAGE):
        return len(order.events) >= MAX_OTHER and sum(one.kind in (FAILED, MESSAGE) for one in kept) >= MAX_OTHER
    return len(order.events) + waiting >= MAX_EVENTS
