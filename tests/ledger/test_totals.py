from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_orders import names
from otel_orders.ledger.totals import EDGES, INFINITE, SUM, Delta, edges
from tests.ledger.strategies import LIFECYCLE

OURS = edges(LIFECYCLE)
FACT = (names.TIME_IN_STATUS, "SUBMITTED", "retail")


def test_there_is_an_edge_exactly_at_each_limit() -> None:
    limits = [sla.within for sla in LIFECYCLE.slas.values()]
    limits += [status.stuck_after for status in LIFECYCLE.statuses.values() if status.stuck_after]
    assert limits
    assert {limit // 1_000_000 for limit in limits} <= set(OURS)
    assert set(EDGES) <= set(OURS)
    assert list(OURS) == sorted(set(OURS))


@pytest.mark.parametrize(("over", "place"), [(-1, 0), (0, 0), (1, 1)])
def test_a_value_at_a_limit_is_inside_it(over: int, place: int) -> None:
    limit = OURS.index(300_000)
    delta = Delta(OURS)
    delta.count([(*FACT, 300_000 + over)])
    assert delta.changes() == {(*FACT, SUM): 300_000 + over, (*FACT, OURS[limit + place]): 1}


@given(st.lists(st.integers(0, 2 * OURS[-1])))
def test_buckets_and_sum_add_up(values: list[int]) -> None:
    delta = Delta(OURS)
    delta.count((*FACT, value) for value in values)
    changes = delta.changes()
    assert changes.pop((*FACT, SUM), 0) == sum(values)
    assert sum(changes.values()) == len(values)
    assert {series[-1] for series in changes} <= {*OURS, INFINITE}


def test_an_order_leaves_one_standing_for_another() -> None:
    here, there, both = (names.IN_STATUS, "SUBMITTED"), (names.IN_STATUS, "SHIPPED"), (names.STUCK, "SUBMITTED")
    delta = Delta(OURS)
    delta.become({here, both}, {there, both})
    assert delta.changes() == {here: -1, there: 1}


def test_what_changes_nothing_leaves_no_series() -> None:
    delta = Delta(OURS)
    delta.become({(names.IN_STATUS, "SUBMITTED")}, {(names.IN_STATUS, "SUBMITTED")})
    delta.count([])
    assert delta.changes() == {}
