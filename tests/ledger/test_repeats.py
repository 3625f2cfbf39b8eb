"""A handler that ran twice: its second event changes nothing, and the story says so."""

from __future__ import annotations

from otel_orders.ledger import model
from otel_orders.ledger.kept import CHANGED, Kept, Order
from otel_orders.ledger.story import oddities, visits
from tests.ledger.strategies import LIFECYCLE, MINUTE

PLAN = model.Plan(LIFECYCLE)


def moved(number: int, at: int, left: str | None, to: str) -> Kept:
    return Kept(bytes([number]) * 16, CHANGED, at, to, left, "shop-api")


def order_of(*events: Kept) -> Order:
    fold, _ = model.folded(list(events), 0, PLAN)
    return Order(fold, 0, list(events))


def test_a_repeat_neither_cuts_the_stay_nor_restarts_its_timer() -> None:
    order = order_of(
        moved(1, MINUTE, None, "INITIATED"),
        moved(2, 2 * MINUTE, "INITIATED", "FILE_UPLOADED"),
        moved(3, 9 * MINUTE, "INITIATED", "FILE_UPLOADED"),
    )
    assert [(visit.status, visit.entered_at) for visit in visits(order, PLAN)] == [
        ("INITIATED", MINUTE),
        ("FILE_UPLOADED", 2 * MINUTE),
    ]
    assert order.fold.entered_at == 2 * MINUTE
    assert oddities(order, PLAN) == ["shop-api reported FILE_UPLOADED again"]
