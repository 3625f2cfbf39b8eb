"""The runs of clocks are those whose results the ledger counts."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_orders import names
from otel_orders.ledger import model
from otel_orders.ledger.kept import Fold, Kept, Order
from otel_orders.ledger.runs import Run, runs
from otel_orders.ledger.story import visits
from tests.ledger.strategies import HOUR, MINUTE, PLAN, START, histories, path
from tests.ledger.test_model import plan_of

REWORK = ("WORK", "DONE", "WORK", "DONE", "WORK", "GONE")


@given(st.one_of(histories()))
def test_milestones_in_a_report_are_those_that_were_counted(events: list[Kept]) -> None:
    _, facts = model.folded(events, 0, PLAN)
    stays = visits(Order(Fold(), 0, events), PLAN)
    for clock in PLAN.clocks:
        took = Counter(
            model.milliseconds(run.ended_at - run.started_at)
            for run in runs(clock, stays)
            if run.ended_at and not run.void
        )
        if clock.is_sla:
            counted = [fact for fact in facts.added if fact[0] in (names.SLA_MET, names.SLA_BREACHED)]
            results = sum(fact[1] == clock.name for fact in counted)
            ended = sum(run.ended_at is not None for run in runs(clock, stays))
            assert ended <= results  # a void run may have been a breach before
        else:
            assert took == Counter(fact[-1] for fact in facts.added if fact[:2] == (names.MILESTONE, clock.name))


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("first", [(0, 1)]),
        ("last", [(0, 1), (2, 3), (4, None)]),
        ("each", [(0, 1), (2, 3), (4, None)]),
    ],
)
def test_a_loop_starts_a_milestone_first_last_or_each_time(start: str, expected: list[tuple[int, int | None]]) -> None:
    plan = plan_of(start=start)
    way = next(clock for clock in plan.clocks if clock.name == "way")
    found = list(runs(way, visits(Order(Fold(), 0, path(*REWORK)), plan)))
    steps = [(run.started_at - START) // MINUTE for run in found]
    ends = [None if run.ended_at is None else (run.ended_at - START) // MINUTE for run in found]
    assert list(zip(steps, ends, strict=True)) == expected
    assert found[-1].void is (start != "first")


@pytest.mark.parametrize(
    ("start", "ended"),
    [("first", [(0, 2)]), ("last", [(1, 2)]), ("each", [(0, 2), (1, 2)])],
)
def test_who_comes_back_before_the_end_starts_first_last_or_each_time(start: str, ended: list[tuple[int, int]]) -> None:
    """WORK left for NEW and entered again before DONE: the first entry, the last one, or both are measured."""
    plan = plan_of(start=start)
    way = next(clock for clock in plan.clocks if clock.name == "way")
    events = path("WORK", "NEW", "WORK", "DONE", pause=HOUR)
    found = [run for run in runs(way, visits(Order(Fold(), 0, events), plan)) if not run.void]
    entries = {START: 0, START + 2 * HOUR: 1}
    assert [(entries[run.started_at], 2) for run in found if run.ended_at == START + 3 * HOUR] == ended


def test_an_end_before_its_start_is_void() -> None:
    plan = plan_of()
    way = next(clock for clock in plan.clocks if clock.name == "way")
    events = path("WORK", "DONE", pause=-MINUTE)
    stays = visits(Order(Fold(), 0, events), plan)
    assert [run for run in runs(way, stays) if not run.void and run.ended_at] == []


def test_a_run_that_is_not_over_is_open() -> None:
    plan = plan_of()
    way = next(clock for clock in plan.clocks if clock.name == "way")
    assert list(runs(way, visits(Order(Fold(), 0, path("NEW", "WORK")), plan))) == [
        Run(START + MINUTE, None, void=False)
    ]
