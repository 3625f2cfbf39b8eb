"""Fold an order's events into where it is and what is to be counted.  Pure: knows no store, no clock, no transport.

One step of the fold takes one event; folding all events of an order and appending its newest one are the same code.
What a step finds out is a fact: something to be counted once.  What an order *is* now (in a status, stuck, overdue) is
its standing, a function of the fold and of the time up to which its timers were looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

from otel_orders import names
from otel_orders.ledger import chain
from otel_orders.ledger.kept import CHANGED, OBSERVED, Fact, Fold, Kept, OpenClock
from otel_orders.ledger.sla import GRACE, Clock, clocks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_orders.lifecycle import Lifecycle

MILLISECOND = 1_000_000
DAY = 86_400_000_000_000
NEVER = 2**63 - 1
"""Due time of an order that has no timer, unix ns."""
NEVER_AGAIN = NEVER - 1
"""Due time of a row that has rotted and was counted as such, unix ns."""
UNKNOWN = "unknown"
"""Label of statuses that the lifecycle does not have, so that a sender cannot make up series."""

STANDING = frozenset({names.IN_STATUS, names.STUCK, names.ON_HOLD, names.SLA_OVERDUE, names.SLA_AT_RISK})
"""Metrics whose totals say what orders are now; they can go down."""


class Retention(NamedTuple):
    """How long things are kept, in ns.

    orders: an order that has ended, after its last event; events older than this are refused as late, so that none can
    bring an order back that was removed.  errors: what is known of a failed transition.
    """

    orders: int = 90 * DAY
    errors: int = 30 * DAY

    def text(self) -> str:
        """Return it as a store keeps it."""
        return f"{int(self.orders)},{int(self.errors)}"

    @classmethod
    def of(cls, text: str | None) -> Self:
        """Return what text() made *text* of; the usual one for None."""
        return cls(*map(int, text.split(","))) if text else cls()


KEPT = Retention()


class Plan:
    """A lifecycle, compiled for folding: what entering each status starts, ends and voids."""

    def __init__(self, lifecycle: Lifecycle, retention: Retention = KEPT) -> None:
        self.lifecycle = lifecycle
        self.retention = retention
        self.rank = lifecycle.rank
        self.clocks = clocks(lifecycle)
        self.stuck_after = {name: int(status.stuck_after or 0) for name, status in lifecycle.statuses.items()}
        self.terminal = frozenset(name for name, status in lifecycle.statuses.items() if status.terminal)
        self.starts = {
            status: tuple((place, clock) for place, clock in enumerate(self.clocks) if clock.start_status == status)
            for status in lifecycle.statuses
        }
        self.ends = {
            status: frozenset(place for place, clock in enumerate(self.clocks) if clock.end_status == status)
            for status in lifecycle.statuses
        }
        self.voids = {
            status: frozenset(place for place, clock in enumerate(self.clocks) if clock.voided_by(status))
            for status in lifecycle.statuses
        }

    def follows(self, status: str | None, to_status: str) -> bool:
        """Whether an event that only names *to_status* can be the next of an order in *status*.

        Anything fits a status that the lifecycle does not have, and an order without history starts where it may.
        """
        entered = self.lifecycle.status(to_status)
        if entered is None or (status is not None and self.lifecycle.status(status) is None):
            return True
        return entered.initial if status is None else to_status in self.lifecycle.statuses[status].next

    def label(self, status: str) -> str:
        """Return *status* as a metric label."""
        return status if status in self.stuck_after else UNKNOWN


class Facts:
    """What the steps of a fold found out: facts to count, and facts counted before that turned out wrong."""

    __slots__ = ("added", "withdrawn")

    def __init__(self) -> None:
        self.added: list[Fact] = []
        self.withdrawn: list[Fact] = []


def milliseconds(nanoseconds: int) -> int:
    """Return *nanoseconds* in whole ms, rounded up: what is over a limit by any amount stays over it."""
    return -(-nanoseconds // MILLISECOND)


def folded(events: Iterable[Kept], swept_at: int, plan: Plan) -> tuple[Fold, Facts]:
    """Fold *events*, in any order, and look at the timers up to *swept_at* (unix ns)."""
    fold, facts = Fold(), Facts()
    moves = [event for event in events if event.kind in (CHANGED, OBSERVED)]
    for event, counts_as, chains in chain.chained(moves, plan):
        step(fold, event, counts_as, plan, facts, chains=chains)
    sweep(fold, swept_at, plan, facts)
    return fold, facts


def is_newest(fold: Fold, event: Kept) -> bool:
    """Whether *event* may be appended: it comes after all others, and none is near that could have waited for it."""
    return (
        event.at > fold.newest_at
        and (fold.gap_at < 0 or event.at > fold.gap_at + chain.MAX_SKEW)
        and (event.version is None or event.version > fold.version)
    )


def step(fold: Fold, event: Kept, counts_as: int, plan: Plan, facts: Facts, *, chains: bool) -> None:
    """Let *event* happen.  counts_as: its time for sorting, unix ns.  chains: it leaves the status the order is in."""
    if not chains or counts_as <= fold.newest_at:
        fold.gap_at = max(fold.gap_at, counts_as)
    fold.newest_at = max(fold.newest_at, counts_as)
    if event.version is not None:
        fold.version = max(fold.version, event.version)
    if event.partner is not None and fold.partner is None:
        fold.partner = event.partner
    if repeats(event, fold.status):
        return
    partner = plan.lifecycle.partner_label(fold.partner)
    if chains and fold.status is not None and event.at >= fold.entered_at:
        stay = milliseconds(event.at - fold.entered_at)
        facts.added.append((names.TIME_IN_STATUS, plan.label(fold.status), partner, stay))
    fold.status, fold.entered_at = event.to, event.at
    rank = plan.rank(event.to)
    if rank not in fold.reached:
        fold.reached.append(rank)
        facts.added.append((names.REACHED, plan.label(event.to)))
    if event.to in plan.stuck_after:
        _turn_clocks(fold, event, partner, plan, facts)


def repeats(event: Kept, status: str | None) -> bool:
    """Whether *event* only says again that the order is in *status*: a handler that ran twice cuts no stay in two."""
    return event.to == status and (event.kind == OBSERVED or event.left != status)


def _turn_clocks(fold: Fold, event: Kept, partner: str, plan: Plan, facts: Facts) -> None:
    ends, voids = plan.ends[event.to], plan.voids[event.to]
    running: list[OpenClock] = []
    for open_clock in fold.clocks:
        if open_clock.place in ends:
            _end(open_clock, plan.clocks[open_clock.place], event.at, facts)
        elif open_clock.place in voids:
            _void(open_clock, plan.clocks[open_clock.place], event.at, facts)
        else:
            running.append(open_clock)
    for place, clock in plan.starts[event.to]:
        if clock.start == "first":
            if place in fold.ran:
                continue
            fold.ran.append(place)
        deadline, at_risk = clock.deadline(event.at), clock.at_risk(event.at)
        running.append(OpenClock(place, partner, event.at, deadline, at_risk))
    fold.clocks = running


def _end(open_clock: OpenClock, clock: Clock, at: int, facts: Facts) -> None:
    if not open_clock.deadline:
        if at >= open_clock.started_at:
            took = milliseconds(at - open_clock.started_at)
            facts.added.append((names.MILESTONE, clock.name, open_clock.partner, took))
        return
    met = at <= open_clock.deadline
    if met:
        facts.added.append((names.SLA_MET, clock.name, open_clock.partner))
    _breach(open_clock, clock, facts, breached=not met)


def _void(open_clock: OpenClock, clock: Clock, at: int, facts: Facts) -> None:
    """End without a result, except that a breach which was due before stays one."""
    if open_clock.deadline:
        _breach(open_clock, clock, facts, breached=at > open_clock.deadline + GRACE)


def _breach(open_clock: OpenClock, clock: Clock, facts: Facts, *, breached: bool) -> None:
    fact = (names.SLA_BREACHED, clock.name, open_clock.partner)
    if breached and not open_clock.counted:
        facts.added.append(fact)
    elif open_clock.counted and not breached:
        facts.withdrawn.append(fact)
    open_clock.counted = breached


def sweep(fold: Fold, swept_at: int, plan: Plan, facts: Facts) -> None:
    """Count the breaches that are due by *swept_at* (unix ns)."""
    for open_clock in fold.clocks:
        if open_clock.deadline and not open_clock.counted and open_clock.deadline + GRACE <= swept_at:
            _breach(open_clock, plan.clocks[open_clock.place], facts, breached=True)


def standing(fold: Fold, swept_at: int, plan: Plan, held_until: int = 0) -> set[Fact]:
    """Return what the order is, as of *swept_at* (unix ns): facts that are true until they are not.

    held_until: unix ns; up to then the order is on hold instead of stuck.  Its promises are not put off by that.
    """
    if fold.status is None or fold.status in plan.terminal:
        return set()
    found: set[Fact] = {(names.IN_STATUS, plan.label(fold.status))}
    if not swept_at:  # no timer was looked at yet
        return found
    limit = plan.stuck_after.get(fold.status)
    if swept_at < held_until:
        found.add((names.ON_HOLD, plan.label(fold.status)))
    elif limit and fold.entered_at + limit <= swept_at:
        found.add((names.STUCK, fold.status))
    for open_clock in fold.clocks:
        if not open_clock.deadline:
            continue
        clock = plan.clocks[open_clock.place]
        if open_clock.deadline <= swept_at:
            found.add((names.SLA_OVERDUE, clock.name))
        elif open_clock.at_risk <= swept_at:
            found.add((names.SLA_AT_RISK, clock.name))
    return found


def due_at(fold: Fold, swept_at: int, plan: Plan, held_until: int = 0) -> int:
    """Return the soonest of the order's timers after *swept_at* (unix ns), or NEVER."""
    if fold.status is None or fold.status in plan.terminal:
        return NEVER
    soonest = NEVER
    limit = plan.stuck_after.get(fold.status)
    if swept_at < held_until:
        soonest = held_until
    elif limit and swept_at < fold.entered_at + limit:
        soonest = min(fold.entered_at + limit, soonest)
    for open_clock in fold.clocks:
        if deadline := open_clock.deadline:
            for timer in (open_clock.at_risk, deadline, deadline + GRACE):
                if swept_at < timer:
                    soonest = min(timer, soonest)
                    break
    return soonest
