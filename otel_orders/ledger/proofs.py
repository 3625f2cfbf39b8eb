"""What orders prove by their events, all together, to hold the totals against.  Pure: knows no store.

A counter is what the orders prove and what is carried: of orders that were removed, and of other lifecycles.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from otel_orders import names
from otel_orders.ledger import apply
from otel_orders.ledger.totals import CARRIED, KEPT_EVENTS, Delta, edges

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_orders.ledger.kept import Order
    from otel_orders.ledger.model import Plan
    from otel_orders.ledger.totals import ErrorCodes, Series

PROVED: Final = frozenset(
    {
        *(names.TIME_IN_STATUS, names.MILESTONE, names.REACHED),
        *(names.SLA_MET, names.SLA_BREACHED, names.FAILED_TRANSITIONS),
    }
)
"""Counters that events prove.  The others count what came and what was wrong with it, which is not kept."""
KEPT_RESULTS: Final = (
    *(apply.ACCEPTED, apply.ILLEGAL, apply.SKIPPED),
    *(apply.UNKNOWN_STATUS, apply.NEGATIVE_DURATION),
)
"""Results of events that were kept."""


class Proofs:
    """Adds up what orders prove under one lifecycle."""

    def __init__(self, plan: Plan, codes: ErrorCodes) -> None:
        self._plan = plan
        self._codes = codes
        self._edges = edges(plan.lifecycle)
        self._proved: Counter[Series] = Counter()

    def add(self, order: Order) -> None:
        """Add what *order* proves."""
        delta = Delta(self._edges)
        delta.count(apply.proved(order, self._plan))
        self._proved.update(self._codes.bounded(delta.changes()))
        self._proved[KEPT_EVENTS] += len(order.events)

    def expected(self, totals: Mapping[Series, int]) -> dict[Series, int]:
        """Return what the counters should say, with what *totals* carries."""
        found = self._proved.copy()
        found.update({series[1:]: by for series, by in totals.items() if series[0] == CARRIED})
        return {series: by for series, by in found.items() if by}

    def uncarried(self, totals: Mapping[Series, int]) -> dict[Series, int]:
        """Return how what is carried must change for *totals* to be proved: the counters themselves never go down."""
        missing = Counter(counted(totals))
        missing.subtract(self.expected(totals))
        return {(CARRIED, *series): by for series, by in missing.items() if by}


def counted(totals: Mapping[Series, int]) -> dict[Series, int]:
    """Return those of *totals* that can be proved, and how many events were kept."""
    found = {series: value for series, value in totals.items() if series[0] in PROVED and value}
    kept = sum(totals.get((names.LEDGER_EVENTS, result), 0) for result in KEPT_RESULTS)
    return {**found, KEPT_EVENTS: kept} if kept else found
