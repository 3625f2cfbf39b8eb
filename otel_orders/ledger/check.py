"""Prove that a store says what its events say: each order folded anew, and all totals added up again.

What can be proved is repaired on request: folds, timers and gauges.  A counter is never changed, since counters never
go down; what no order explains is carried from then on.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from otel_orders.ledger import apply, model
from otel_orders.ledger.kept import readable
from otel_orders.ledger.proofs import Proofs, counted
from otel_orders.ledger.store import row_of
from otel_orders.ledger.totals import ErrorCodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_orders.ledger.kept import Order
    from otel_orders.ledger.model import Plan
    from otel_orders.ledger.store import Row, Store, Transaction
    from otel_orders.ledger.totals import Series

AT_ONCE: Final = 500
UNREADABLE: Final = "the row cannot be read"


class Difference(NamedTuple):
    """Something that is not as the events say.  where: an order id, or a series as Prometheus writes it."""

    where: str
    what: str


class Findings:
    """What a check found.

    orders: how many were looked at.  differences: of orders, then of totals.  unreadable: orders whose rows have
    rotted.  repairable: orders that can be folded anew.  totals: what makes gauges, and what is carried, right.
    """

    def __init__(self) -> None:
        self.orders = 0
        self.differences: list[Difference] = []
        self.unreadable: list[str] = []
        self.repairable: list[str] = []
        self.totals: dict[Series, int] = {}

    @property
    def right(self) -> bool:
        """Whether all is as the events say."""
        return not self.differences


def check(store: Store, plan: Plan) -> Findings:
    """Compare everything in *store*, as it is at one moment, with its events; writers are not held up."""
    found = Findings()
    proofs, standing = Proofs(plan, ErrorCodes(store.items)), Counter[tuple[str | int, ...]]()
    with store.snapshot() as still:
        for rows in still.rows(AT_ONCE):
            for row in rows:
                found.orders += 1
                if (order := _proved(row, plan, found)) is not None:
                    proofs.add(order)
                    standing.update(apply.standing(order, plan))
        totals = still.totals()
    _compare_totals(totals, proofs, standing, found)
    return found


def repair(store: Store, plan: Plan, found: Findings) -> None:
    """Make right what *found* says: orders that differ, gauges, and what is carried."""
    for start in range(0, len(found.repairable), AT_ONCE):
        with store.transaction() as tx:
            _repair_orders(tx, found.repairable[start : start + AT_ONCE], plan)
    with store.transaction() as tx:
        tx.add(found.totals)


def _repair_orders(tx: Transaction, order_ids: list[str], plan: Plan) -> None:
    rows = []
    for order_id, before in tx.find(order_ids).items():
        if (order := readable(before.state)) is not None:
            rows.append(row_of(order_id, _anew(order, plan), before, plan))
    tx.reschedule(rows)


def _proved(row: Row, plan: Plan, found: Findings) -> Order | None:
    """Return what the events of *row* say, after noting where the row says otherwise."""
    order = readable(row.state)
    if order is None:
        found.unreadable.append(row.order_id)
        found.differences.append(Difference(row.order_id, UNREADABLE))
        return None
    anew = _anew(order, plan)
    expected = row_of(row.order_id, anew, None, plan)
    differing = list(_differing(row, order, expected, anew))
    if differing:
        found.repairable.append(row.order_id)
        found.differences.append(Difference(row.order_id, "; ".join(differing)))
    return anew


def _anew(order: Order, plan: Plan) -> Order:
    fold, _ = model.folded(order.events, order.swept_at, plan)
    return msgspec.structs.replace(order, fold=fold)


def _differing(row: Row, order: Order, expected: Row, anew: Order) -> Iterator[str]:
    for field in anew.fold.__struct_fields__:
        stored, right = getattr(order.fold, field), getattr(anew.fold, field)
        if stored != right:
            yield f"{field} is {_shown(stored)} and should be {_shown(right)}"
    for field in ("stage", "waiting_since"):
        stored, right = getattr(row, field), getattr(expected, field)
        if stored != right:
            yield f"{field} is {stored} and should be {right}"
    if row.due_at > expected.due_at:  # earlier is right, too: then the sweep finds nothing to do
        yield f"due_at is {row.due_at} and should be {expected.due_at}"


def _compare_totals(
    totals: Mapping[Series, int], proofs: Proofs, standing: Mapping[Series, int], found: Findings
) -> None:
    gauges = {series: value for series, value in totals.items() if series[0] in model.STANDING and value}
    _compare(gauges, standing, found)
    _compare(counted(totals), proofs.expected(totals), found)
    off = Counter(standing)
    off.subtract(gauges)
    found.totals = {series: by for series, by in off.items() if by} | proofs.uncarried(totals)


def _compare(stored: Mapping[Series, int], right: Mapping[Series, int], found: Findings) -> None:
    for series in sorted({*stored, *right}, key=str):
        says, proves = stored.get(series, 0), right.get(series, 0)
        if says != proves:
            found.differences.append(Difference(_named(series), f"is {says} and should be {proves}"))


def _named(series: Series) -> str:
    name, *labels = series
    return f"{name}{{{','.join(map(str, labels))}}}"


def _shown(value: object) -> str:
    return str(msgspec.to_builtins(value)) if not isinstance(value, bytes) else value.hex()
