"""Everything that a store knows, as flat rows: its events, or the stays that they prove.  Streams; knows no format."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from otel_orders import names
from otel_orders.ledger.kept import readable
from otel_orders.ledger.story import told_event, visits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_orders.ledger.kept import Order
    from otel_orders.ledger.model import Plan
    from otel_orders.ledger.store import Store

AT_ONCE: Final = 500

EVENTS: Final = {
    **dict.fromkeys((names.ORDER_ID, names.EVENT_TYPE, names.EVENT_ID), str),
    names.OCCURRED_AT: int,
    "time": str,
    **dict.fromkeys((names.FROM_STATUS, names.TO_STATUS, "outcome", names.SERVICE, names.PARTNER_ID), str),
    **dict.fromkeys((names.DURATION, names.ORDER_VERSION), int),
    **dict.fromkeys((names.ERROR_CODE, names.TRACE_ID, names.SPAN_ID, "attributes"), str),
}
"""Columns of events and their types.  occurred_at, duration: ns.  time: occurred_at to read.  attributes: JSON."""
VISITS: Final = {
    **dict.fromkeys((names.ORDER_ID, names.PARTNER_ID, names.STATUS), str),
    **dict.fromkeys(("entered_at", "left_at"), int),
    "seconds": float,
    "proved": bool,
}
"""Columns of visits and their types.  entered_at, left_at: unix ns.  proved: whether the end is known (story.py)."""

Row = dict[str, Any]


def events(store: Store, env: str, rotten: list[str]) -> Iterator[Row]:
    """Yield all events of *store* as records that a ledger of *env* takes, by order.

    rotten: gets the ids of the orders whose rows cannot be read.
    """
    for order_id, order in _orders(store, rotten):
        for event in order.events:
            yield {names.ORDER_ID: order_id, names.ENV: env} | told_event(event)


def flat(record: Row) -> Row:
    """Return the *record* of an event with the columns of EVENTS."""
    attributes = record.get("attributes")
    return {name: record.get(name) for name in EVENTS} | {
        "time": datetime.fromtimestamp(record[names.OCCURRED_AT] / 1e9, UTC).isoformat(),
        "attributes": msgspec.json.encode(attributes).decode() if attributes else None,
    }


def stays(store: Store, plan: Plan, rotten: list[str]) -> Iterator[Row]:
    """Yield all visits of *store*, by order, oldest first.  rotten: as for events()."""
    for order_id, order in _orders(store, rotten):
        for visit in visits(order, plan):
            left_at = visit.left_at
            yield {
                names.ORDER_ID: order_id,
                names.PARTNER_ID: order.fold.partner,
                names.STATUS: visit.status,
                "entered_at": visit.entered_at,
                "left_at": left_at,
                "seconds": None if left_at is None else (left_at - visit.entered_at) / 1e9,
                "proved": visit.proved,
            }


def _orders(store: Store, rotten: list[str]) -> Iterator[tuple[str, Order]]:
    for some in store.scan(AT_ONCE):
        for order_id, state in some:
            if (order := readable(state)) is None:
                rotten.append(order_id)
            else:
                yield order_id, order
