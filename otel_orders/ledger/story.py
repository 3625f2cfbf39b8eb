"""Tell one order's story: what happened, how long it stayed where, and what is odd about it.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from otel_orders import names
from otel_orders.ledger import chain, model
from otel_orders.ledger.kept import CHANGED, FAILED, OBSERVED, Kept, Order

if TYPE_CHECKING:
    from otel_orders.ledger.model import Plan

TYPES = {CHANGED: names.STATUS_CHANGED, FAILED: names.TRANSITION_FAILED, OBSERVED: names.OBSERVED}


class Visit(msgspec.Struct, frozen=True):
    """One stay in one status.  entered_at, left_at: unix ns; left_at is None while the order is there.

    proved: the event that ended it says that it left this status; where it is false, an event is missing.
    """

    status: str
    entered_at: int
    left_at: int | None
    proved: bool


def visits(order: Order, plan: Plan) -> list[Visit]:
    """Return the stays of *order*, oldest first."""
    stays: list[Visit] = []
    for event, _, chains in _moves(order, plan):
        if stays and model.repeats(event, stays[-1].status):
            continue
        if stays:
            stays[-1] = msgspec.structs.replace(stays[-1], left_at=event.at, proved=chains)
        stays.append(Visit(event.to, event.at, None, proved=True))
    return stays


def story(order_id: str, order: Order, plan: Plan, now: int) -> dict[str, Any]:
    """Return the story of *order* as of *now* (unix ns), ready for JSON: field names as in names.py, times in ns."""
    fold = order.fold
    status = plan.lifecycle.status(fold.status) if fold.status else None
    limit = plan.stuck_after.get(fold.status or "")
    held_until = order.hold.until if order.hold else 0
    deadline = max(fold.entered_at + limit, held_until) if limit else None
    ended = fold.status in plan.terminal
    return {
        names.ORDER_ID: order_id,
        names.PARTNER_ID: fold.partner,
        names.STATUS: fold.status,
        "owner": status.owner if status else None,
        "since": fold.entered_at if fold.status else None,
        "seconds_in_status": max(0, now - fold.entered_at) / 1e9 if fold.status and not ended else None,
        "ended": ended,
        "stuck_at": deadline if not ended else None,
        "stuck": deadline is not None and not ended and deadline <= now,
        "hold": told_hold(order, now) if not ended else None,
        "promises": _promises(order, plan, now),
        "visits": [msgspec.to_builtins(visit) for visit in visits(order, plan)],
        "events": [told_event(event) for event in _in_order(order, plan)],
        "oddities": oddities(order, plan),
    }


def told_hold(order: Order, now: int) -> dict[str, Any] | None:
    """Return what a person said about waiting, and whether it still lasts."""
    return None if order.hold is None else {**msgspec.structs.asdict(order.hold), "lasts": now < order.hold.until}


def oddities(order: Order, plan: Plan) -> list[str]:
    """Return, in words for support, what is not as it should be with the order's history."""
    found: list[str] = []
    status: str | None = None
    since = 0
    for event, _, chains in _moves(order, plan):
        if status is not None and model.repeats(event, status):
            found.append(f"{event.service} reported {event.to} again")
            continue
        found += _odd(event, status, since, plan, chains=chains)
        status, since = event.to, event.at
    if order.debt:
        found.append(f"late events proved values wrong that were counted before: {len(order.debt)}")
    return found


def _odd(event: Kept, status: str | None, since: int, plan: Plan, *, chains: bool) -> list[str]:
    found: list[str] = []
    left = status if event.left is None else event.left
    legality = plan.lifecycle.move(left, event.to)
    if legality == "unknown_status":
        unknown = [name for name in (left, event.to) if name and plan.lifecycle.status(name) is None]
        found.append(f"{event.service} reported {' and '.join(unknown)}, which the lifecycle does not have")
    elif legality != "legal":
        found.append(f"{legality} move from {left} to {event.to}, reported by {event.service}")
    if not chains and event.left is not None:
        before = f"was in {status}" if status else "had no history"
        found.append(f"{event.service} moved it from {event.left} when it {before}: an event is missing")
    if chains and event.at < since:
        early = (since - event.at) / 1e9
        found.append(
            f"{event.service} left {status} {early:.3f} s before it was entered: the clocks of two services differ,"
            " or a message was sent before the block that entered it had ended"
        )
    return found


def _promises(order: Order, plan: Plan, now: int) -> list[dict[str, Any]]:
    return [
        {
            "sla": plan.clocks[clock.place].name,
            "started_at": clock.started_at,
            "deadline": clock.deadline,
            "overdue": clock.deadline <= now,
        }
        for clock in order.fold.clocks
        if clock.deadline
    ]


def _moves(order: Order, plan: Plan) -> list[tuple[Kept, int, bool]]:
    return chain.chained((event for event in order.events if event.kind in (CHANGED, OBSERVED)), plan)


def _in_order(order: Order, plan: Plan) -> list[Kept]:
    """Return all events: moves as they chain, the others between them by time."""
    moves = [event for event, _, _ in _moves(order, plan)]
    others = sorted((event for event in order.events if event.kind not in (CHANGED, OBSERVED)), key=lambda one: one.at)
    merged: list[Kept] = []
    for move in moves:
        while others and others[0].at <= move.at:
            merged.append(others.pop(0))
        merged.append(move)
    return merged + others


def told_event(event: Kept) -> dict[str, Any]:
    """Return *event* as it is told: names as in names.py, what it does not say left out."""
    attributes = dict(event.attributes or {})
    told: dict[str, Any] = {
        names.EVENT_TYPE: TYPES.get(event.kind) or attributes.pop(names.EVENT_TYPE, "order.message"),
        names.EVENT_ID: event.id.hex(),
        names.OCCURRED_AT: event.at,
        names.FROM_STATUS: event.left,
        names.TO_STATUS if event.kind in TYPES else "outcome": event.to,
        names.SERVICE: event.service,
        names.PARTNER_ID: event.partner,
        names.DURATION: event.duration,
        names.ORDER_VERSION: event.version,
        names.ERROR_CODE: event.error_code or None,
        names.TRACE_ID: event.trace_id.hex() or None,
        names.SPAN_ID: event.span_id.hex() or None,
        "attributes": attributes or None,
    }
    return {name: value for name, value in told.items() if value is not None}
