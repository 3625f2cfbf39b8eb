from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_orders import names
from otel_orders.ledger import apply, model
from otel_orders.ledger.kept import pack, unpack
from otel_orders.ledger.totals import Delta, edges
from tests.ledger.reference import truth
from tests.ledger.strategies import (
    DAY,
    HOUR,
    LIFECYCLE,
    MINUTE,
    PLAN,
    SECOND,
    START,
    WHAT,
    arrivals,
    histories,
)

if TYPE_CHECKING:
    from otel_orders.ledger.kept import Fact, Kept, Order

SWEEPS = st.sampled_from((MINUTE, 5 * MINUTE, HOUR, DAY, 3 * DAY, 30 * DAY))


class Ledger:
    """One order and the totals, without a store; checks after each step that no counter went down."""

    def __init__(self) -> None:
        self.order: Order = apply.empty_order()
        self.totals: Counter[Fact] = Counter()
        self.results: list[str] = []

    def take(self, *events: Kept) -> list[str]:
        delta = Delta(edges(LIFECYCLE))
        order = unpack(pack(self.order))
        results = apply.take(order, events, PLAN, delta)
        self._keep(order, delta)
        self.results += results
        return results

    def sweep(self, now: int) -> None:
        delta = Delta(edges(LIFECYCLE))
        order = unpack(pack(self.order))
        if model.due_at(order.fold, order.swept_at, PLAN) <= now:
            apply.sweep(order, now, PLAN, delta)
        self._keep(order, delta)

    def _keep(self, order: Order, delta: Delta) -> None:
        gone_down = {series for series, by in delta.changes().items() if by < 0 and series[0] not in model.STANDING}
        assert not gone_down
        self.order = unpack(pack(order))
        self.totals.update(delta.changes())

    def counted(self) -> dict[Fact, int]:
        shown = (names.TIME_IN_STATUS, names.MILESTONE, names.REACHED, names.SLA_MET, names.SLA_BREACHED)
        return {series: count for series, count in self.totals.items() if series[0] in shown and count}

    def standing(self) -> set[Fact]:
        found = {series: count for series, count in self.totals.items() if series[0] in model.STANDING and count}
        assert set(found.values()) <= {1}
        return set(found)


def series_of(facts: Counter[Fact]) -> dict[Fact, int]:
    delta = Delta(edges(LIFECYCLE))
    delta.count(facts.elements())
    return {series: count for series, count in delta.changes().items() if count}


def check(ledger: Ledger, events: list[Kept]) -> None:
    """Compare *ledger* with what *events* mean by the reference."""
    order = ledger.order
    true = truth(events, order.swept_at, PLAN)
    assert (order.fold.status, order.fold.entered_at) == (true.status, true.entered_at)
    assert model.due_at(order.fold, order.swept_at, PLAN) == true.due_at
    assert ledger.standing() == true.standing
    assert ledger.counted() == series_of(true.facts + Counter(order.debt))


@given(arrivals())
def test_any_arrival_ends_in_the_same_order(drawn: tuple[list[Kept], list[list[Kept]]]) -> None:
    events, batches = drawn
    ledger = Ledger()
    for batch in batches:
        ledger.take(*batch)
    check(ledger, events)
    together = Ledger()
    together.take(*events)
    assert ledger.order.fold == together.order.fold
    assert sorted(one.id for one in ledger.order.events) == sorted(one.id for one in events)


@given(arrivals(), st.lists(SWEEPS))
def test_totals_are_the_facts_and_the_debt_whatever_came_between_the_sweeps(
    drawn: tuple[list[Kept], list[list[Kept]]], sweeps: list[int]
) -> None:
    _, batches = drawn
    ledger, now = Ledger(), START
    came: list[Kept] = []
    for place, batch in enumerate(batches):
        ledger.take(*batch)
        came += batch
        check(ledger, list({one.id: one for one in came}.values()))
        if place < len(sweeps):
            now += sweeps[place]
            ledger.sweep(now)
            check(ledger, list({one.id: one for one in came}.values()))


@given(arrivals())
def test_corrections_are_the_facts_that_were_withdrawn(drawn: tuple[list[Kept], list[list[Kept]]]) -> None:
    _, batches = drawn
    ledger, withdrawn = Ledger(), 0
    came: list[Kept] = []
    for batch in batches:
        before = truth(came, 0, PLAN).facts
        came = list({one.id: one for one in [*came, *batch]}.values())
        withdrawn += (before - truth(came, 0, PLAN).facts).total()
        ledger.take(*batch)
    corrected = sum(count for series, count in ledger.totals.items() if series[0] == names.CORRECTIONS)
    assert corrected == withdrawn


@pytest.mark.parametrize(
    ("pauses", "what"),
    [
        pytest.param((11 * SECOND, MINUTE, HOUR, 9 * DAY), WHAT, id="whatever happens, well apart"),
        pytest.param((1, SECOND, MINUTE, HOUR, 9 * DAY), ("move", "failed", "message", "self"), id="a chain, close by"),
    ],
)
@given(drawn=st.data())
def test_events_that_come_as_they_happened_correct_nothing(
    drawn: st.DataObject, pauses: tuple[int, ...], what: tuple[str, ...]
) -> None:
    ledger = Ledger()
    for one in drawn.draw(histories(pauses=pauses, skews=(0,), what=what)):
        ledger.take(one)
        if drawn.draw(st.booleans()):
            ledger.sweep(one.at)
    assert ledger.order.debt == []
    assert not [series for series in ledger.totals if series[0] == names.CORRECTIONS]
