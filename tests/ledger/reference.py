"""What an order's events mean, written in the most obvious way: a second opinion on model.py and apply.py.

It knows no increments, no rows and no totals.  Only the order of events (chain.py) and deadlines (sla.py) are taken as
given; they have tests of their own.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from otel_orders import names
from otel_orders.ledger.chain import chained
from otel_orders.ledger.kept import CHANGED, OBSERVED
from otel_orders.ledger.model import NEVER
from otel_orders.ledger.sla import GRACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_orders.ledger.kept import Fact, Kept
    from otel_orders.ledger.model import Plan
    from otel_orders.ledger.sla import Clock


class Entry(NamedTuple):
    """An order enters a status.  proved: by an event that says it left the status before.  partner: a label."""

    status: str
    at: int
    proved: bool
    partner: str


class Run(NamedTuple):
    """One run of a clock; ended_at and voided_at are None while it did not."""

    clock: Clock
    began: Entry
    ended_at: int | None
    voided_at: int | None


class Truth(NamedTuple):
    """What is true of an order at a time."""

    status: str | None
    entered_at: int
    facts: Counter[Fact]
    standing: set[Fact]
    due_at: int


def truth(events: Iterable[Kept], now: int, plan: Plan) -> Truth:
    """Return what *events* say when timers were looked at up to *now* (unix ns)."""
    entries = list(_entries(events, plan))
    runs = [run for clock in plan.clocks for run in _runs(clock, entries)]
    facts = Counter([*_visits(entries, plan), *_first_entries(entries, plan), *_results(runs, now)])
    if not entries or entries[-1].status in plan.terminal:
        standing, due_at = set[tuple[str | int, ...]](), NEVER
    else:
        standing, due_at = _standing(entries[-1], runs, now, plan)
    last = entries[-1] if entries else Entry("", 0, proved=False, partner="")
    return Truth(last.status or None, last.at, facts, standing, due_at)


def _entries(events: Iterable[Kept], plan: Plan) -> Iterator[Entry]:
    partner: str | None = None
    status: str | None = None
    for event, _, proved in chained([one for one in events if one.kind in (CHANGED, OBSERVED)], plan):
        partner = partner or event.partner
        says_where_it_is = event.to == status and (event.kind == OBSERVED or event.left != event.to)
        if not says_where_it_is:
            yield Entry(event.to, event.at, proved, plan.lifecycle.partner_label(partner))
            status = event.to


def _visits(entries: list[Entry], plan: Plan) -> Iterator[Fact]:
    for entered, left in pairwise(entries):
        if left.proved and left.at >= entered.at:
            stay = (left.at - entered.at + 999_999) // 1_000_000
            yield (names.TIME_IN_STATUS, plan.label(entered.status), left.partner, stay)


def _first_entries(entries: list[Entry], plan: Plan) -> Iterator[Fact]:
    for label in {plan.label(entry.status) for entry in entries}:
        yield (names.REACHED, label)


def _runs(clock: Clock, entries: list[Entry]) -> Iterator[Run]:
    starts = [place for place, entry in enumerate(entries) if entry.status == clock.start_status]
    if clock.start == "first":
        starts = starts[:1]
    for start in starts:
        ended_at = voided_at = None
        for later in entries[start + 1 :]:
            if later.status == clock.end_status:
                ended_at = later.at
                break
            again = clock.start == "last" and later.status == clock.start_status
            if again or later.status in clock.void_on:
                voided_at = later.at
                break
        yield Run(clock, entries[start], ended_at, voided_at)


def _results(runs: list[Run], now: int) -> Iterator[Fact]:
    for clock, began, ended_at, voided_at in runs:
        deadline = clock.deadline(began.at)
        if not clock.is_sla:
            if ended_at is not None and ended_at >= began.at:
                yield (names.MILESTONE, clock.name, began.partner, (ended_at - began.at + 999_999) // 1_000_000)
        elif ended_at is not None:
            yield (names.SLA_MET if ended_at <= deadline else names.SLA_BREACHED, clock.name, began.partner)
        elif voided_at is not None:
            if voided_at > deadline + GRACE:
                yield (names.SLA_BREACHED, clock.name, began.partner)
        elif deadline + GRACE <= now:
            yield (names.SLA_BREACHED, clock.name, began.partner)


def _standing(last: Entry, runs: list[Run], now: int, plan: Plan) -> tuple[set[Fact], int]:
    standing: set[Fact] = {(names.IN_STATUS, plan.label(last.status))}
    timers: list[int] = []
    if limit := plan.stuck_after.get(last.status):
        timers.append(last.at + limit)
        if last.at + limit <= now:
            standing.add((names.STUCK, last.status))
    for clock, began, ended_at, voided_at in runs:
        if not clock.is_sla or ended_at is not None or voided_at is not None:
            continue
        at_risk, deadline = clock.at_risk(began.at), clock.deadline(began.at)
        timers += [at_risk, deadline, deadline + GRACE]
        if deadline <= now:
            standing.add((names.SLA_OVERDUE, clock.name))
        elif at_risk <= now:
            standing.add((names.SLA_AT_RISK, clock.name))
    return standing, min((timer for timer in timers if timer > now), default=NEVER)
