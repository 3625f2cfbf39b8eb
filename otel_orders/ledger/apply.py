"""Let events and time happen to an order.  Pure: takes the order out of its row and leaves it ready to be put back.

What was counted for an order is always: the facts of its fold, plus its debt.  Each function here keeps that so.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from otel_orders import names
from otel_orders.ledger import model
from otel_orders.ledger.chain import MAX_SKEW, chains
from otel_orders.ledger.kept import CHANGED, FAILED, MESSAGE, OBSERVED, Fold, Kept, Order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_orders.ledger.model import Facts, Plan
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
    old = len(order.events)
    facts = model.Facts()
    results: list[str] = []
    late = False
    for event in events:
        result = DUPLICATE if event.id in known else _result(order, event, plan)
        results.append(result)
        if result in (DUPLICATE, FULL):
            continue
        known.add(event.id)
        order.events.append(event)
        if event.kind in (FAILED, MESSAGE) or late:
            continue
        late = not model.is_newest(order.fold, event)
        if not late:
            model.step(order.fold, event, event.at, plan, facts, chains=chains(event, order.fold.status, plan))
    if late:
        facts = _refold(order, old, plan)
    else:
        model.sweep(order.fold, order.swept_at, plan, facts)
    _settle(order, facts, delta)
    delta.become(before, model.standing(order.fold, order.swept_at, plan))
    return results


def sweep(order: Order, now: int, plan: Plan, delta: Delta) -> None:
    """Look at the timers of *order* up to *now* (unix ns)."""
    before = model.standing(order.fold, order.swept_at, plan)
    order.swept_at = max(order.swept_at, now)
    facts = model.Facts()
    model.sweep(order.fold, order.swept_at, plan, facts)
    _settle(order, facts, delta)
    delta.become(before, model.standing(order.fold, order.swept_at, plan))


def rebase(order: Order, plan: Plan, delta: Delta) -> None:
    """Fold *order* anew under another lifecycle; *delta* gets its standing, and nothing is counted again."""
    order.fold, _ = model.folded(order.events, order.swept_at, plan)
    delta.become(set(), model.standing(order.fold, order.swept_at, plan))


def empty_order() -> Order:
    """Return an order before its first event."""
    return Order(Fold())


def _refold(order: Order, old: int, plan: Plan) -> Facts:
    """Fold all events of *order* and return what that finds out beyond its first *old* ones, which were counted."""
    _, before = model.folded(order.events[:old], order.swept_at, plan)
    order.fold, after = model.folded(order.events, order.swept_at, plan)
    facts, counted, due = model.Facts(), Counter(before.added), Counter(after.added)
    facts.added, facts.withdrawn = list((due - counted).elements()), list((counted - due).elements())
    return facts


def _settle(order: Order, facts: Facts, delta: Delta) -> None:
    """Count what was added, except what is owed; owe what was withdrawn, since counters never go down."""
    added = facts.added
    if order.debt or facts.withdrawn:
        for fact in facts.withdrawn:
            delta.add((names.CORRECTIONS, str(fact[0])), 1)
        owed, due = Counter(order.debt + facts.withdrawn), Counter(added)
        added, order.debt = list((due - owed).elements()), list((owed - due).elements())
    delta.count(added)


def _result(order: Order, event: Kept, plan: Plan) -> str:
    if _is_full(order, event):
        return FULL
    if event.kind not in (CHANGED, OBSERVED):
        return ACCEPTED if event.kind == MESSAGE or plan.lifecycle.status(event.to) else UNKNOWN_STATUS
    fold = order.fold
    # What an event leaves that does not say so is known only once no late one can come between.
    inferred = fold.status if event.at > fold.newest_at + MAX_SKEW else None
    legality = plan.lifecycle.move(inferred if event.left is None else event.left, event.to)
    if legality != "legal" and event.to != inferred:
        return legality
    negative = event.left is not None and event.left == fold.status and event.at < fold.entered_at
    return NEGATIVE_DURATION if negative else ACCEPTED


def _is_full(order: Order, event: Kept) -> bool:
    kept = len(order.events)
    if kept < MAX_OTHER or event.kind not in (FAILED, MESSAGE):
        return kept >= MAX_EVENTS
    return kept >= MAX_EVENTS or sum(one.kind in (FAILED, MESSAGE) for one in order.events) >= MAX_OTHER
