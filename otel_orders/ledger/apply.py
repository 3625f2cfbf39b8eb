"""Let events and time happen to an order.  Pure: takes the order out of its row and leaves it ready to be put back.

What was counted for an order is always: the facts of its fold, plus its debt.  Each function here keeps that so.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from otel_orders import names
from otel_orders.ledger import model
from otel_orders.ledger.chain import MAX_SKEW, chains
from otel_orders.ledger.kept import CHANGED, FAILED, LATEST, MESSAGE, OBSERVED, Fold, Kept, Order, readable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_orders.ledger.kept import Fact, Hold
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
ERASED: Final = "erased"
"""An event of an order that was erased on request."""
UNREADABLE: Final = "unreadable_order"
"""An event of an order whose row has rotted on its disk."""
LATE: Final = "late"
"""An event that is too old: what it belongs to may have been removed."""
BROKEN: Final = "internal_error"
"""An event that could not be kept for a reason nobody foresaw."""
REFUSED: Final = frozenset({FULL, UNREADABLE, BROKEN, ERASED, LATE})
"""Results of events that were read, and then not kept."""

REMOVED_AFTER: Final = 3_600_000_000_000
"""How much longer something is kept than its events may come, in ns: they may have waited for the disk."""


def take(order: Order, events: Sequence[Kept], plan: Plan, delta: Delta) -> list[str]:
    """Add *events* to *order*, add to *delta* what that changes, and return the result of each event."""
    before = standing(order, plan)
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
        if event.kind == FAILED:
            delta.count([_failure(event, plan)])
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
    delta.become(before, standing(order, plan))
    return results


def sweep(order: Order, now: int, plan: Plan, delta: Delta) -> None:
    """Look at the timers of *order* up to *now* (unix ns)."""
    before = standing(order, plan)
    _forget_errors(order, now, plan, delta)
    order.swept_at = max(order.swept_at, now)
    facts = model.Facts()
    model.sweep(order.fold, order.swept_at, plan, facts)
    _settle(order, facts, delta)
    delta.become(before, standing(order, plan))


def rebase(order: Order, plan: Plan, delta: Delta) -> None:
    """Fold *order* anew under another lifecycle; *delta* gets its standing, and nothing is counted again."""
    order.fold, _ = model.folded(order.events, order.swept_at, plan)
    delta.become(set(), standing(order, plan))


def imported(order: Order, results: Sequence[str], now: int) -> None:
    """Note that the events with these *results* were imported at *now* (unix ns, 0 for not), if any of them is news."""
    if now and any(result not in (DUPLICATE, FULL) for result in results):
        order.imported_at = max(order.imported_at, now)


def hold(order: Order, hold: Hold | None, now: int, plan: Plan, delta: Delta) -> None:
    """Put *order* on hold at *now* (unix ns), or with None take it off; it counts at once."""
    before = standing(order, plan)
    order.hold = hold
    delta.become(before, standing(order, plan))
    sweep(order, now, plan, delta)


def remove(order: Order, plan: Plan, delta: Delta) -> None:
    """Let *order* go: it stands nowhere any more, and what was counted for it stays counted."""
    delta.become(standing(order, plan), set())
    delta.carry(proved(order, plan), len(order.events))


def proved(order: Order, plan: Plan) -> list[Fact]:
    """Return all that was counted for *order*, from its events alone."""
    _, facts = model.folded(order.events, order.swept_at, plan)
    failures = [_failure(event, plan) for event in order.events if event.kind == FAILED]
    return facts.added + failures + order.debt


def due_at(order: Order, plan: Plan) -> int:
    """Return when a timer of *order* must be looked at next, the one for its removal included (unix ns)."""
    fold = order.fold
    if fold.status is None or fold.status in plan.terminal:
        soonest = removed_at(order, plan)
    else:
        soonest = model.due_at(fold, order.swept_at, plan, order.hold.until if order.hold else 0)
    for event in order.events:
        if event.kind == FAILED:
            soonest = min(soonest, _forgotten_at(event, plan))
    return soonest


def removed_at(order: Order, plan: Plan) -> int:
    """Return when *order* may go (unix ns), NEVER while it is open.

    All its events are too old to come again then, and what was imported has been there to be seen for as long.
    """
    status = order.fold.status
    if status is not None and status not in plan.terminal:
        return model.NEVER
    newest = max((event.at for event in order.events), default=0)
    return min(max(newest, order.imported_at) + plan.retention.orders + REMOVED_AFTER, model.NEVER)


def _forget_errors(order: Order, now: int, plan: Plan, delta: Delta) -> None:
    old = [one for one in order.events if one.kind == FAILED and _forgotten_at(one, plan) <= now]
    if old:
        delta.carry([_failure(event, plan) for event in old], len(old))
        order.events = [one for one in order.events if one not in old]


def _forgotten_at(failure: Kept, plan: Plan) -> int:
    return failure.at + plan.retention.errors + REMOVED_AFTER


def _failure(event: Kept, plan: Plan) -> Fact:
    return (names.FAILED_TRANSITIONS, plan.label(event.to), event.error_code)


def standing(order: Order, plan: Plan) -> set[Fact]:
    """Return what *order* is, as of when its timers were last looked at."""
    return model.standing(order.fold, order.swept_at, plan, order.hold.until if order.hold else 0)


def is_sound(order: Order, plan: Plan) -> bool:
    """Whether the fold of *order* can be of *plan*, so that it may be worked with: a row that has rotted may not."""
    fold = order.fold
    return 0 <= fold.entered_at < LATEST and all(0 <= clock.place < len(plan.clocks) for clock in fold.clocks)


def sound(row: bytes, plan: Plan) -> Order | None:
    """Return the order that pack() made *row* of, None where it has rotted so that nobody can work with it."""
    order = readable(row)
    return order if order is not None and is_sound(order, plan) else None


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
