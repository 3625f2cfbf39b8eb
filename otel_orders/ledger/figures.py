"""Business figures, exact from the store: every order is told anew, so nothing that was corrected or missed is left.

Costs a look at every order, and memory for the distinct lengths of stays (ms), not for orders.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

from otel_orders import names
from otel_orders.ledger import apply, model
from otel_orders.ledger.kept import FAILED
from otel_orders.ledger.report import Failure, Promise, Reached, Report, Selection, Span, Stay, Times
from otel_orders.ledger.runs import runs
from otel_orders.ledger.story import visits
from otel_orders.ledger.survival import estimate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_orders.ledger.kept import Fact, Fold, Kept, Order
    from otel_orders.ledger.model import Plan
    from otel_orders.ledger.sla import Clock
    from otel_orders.ledger.store import Store
    from otel_orders.ledger.story import Visit

AT_ONCE: Final = 1000
MILLISECOND: Final = 1_000_000


def report(store: Store, plan: Plan, selection: Selection, now: int) -> Report:
    """Return the figures of *store* as of *now* (unix ns)."""
    figures = Figures(plan, selection, now)
    for some in store.scan(AT_ONCE):
        for _, state in some:
            figures.add(apply.sound(state, plan))
    return figures.report()


class Figures:
    """Adds up orders.  Pure."""

    def __init__(self, plan: Plan, selection: Selection, now: int) -> None:
        self._plan = plan
        self._selection = selection
        self._now = now
        self._counts: Counter[str] = Counter()
        self._reached: Counter[str] = Counter()
        self._failed: Counter[tuple[str, str]] = Counter()
        self._orders_failed: Counter[tuple[str, str]] = Counter()
        self._promises: Counter[Fact] = Counter()
        self._unproved: Counter[str] = Counter()
        self._void: Counter[str] = Counter()
        self._over: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self._lasting: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def add(self, order: Order | None) -> None:
        """Add *order*, None for one that cannot be read, if it is selected."""
        if order is None:
            self._counts["unreadable"] += 1
        elif self._is_selected(order):
            fold, facts = model.folded(order.events, self._now, self._plan)
            stays = visits(order, self._plan)
            self._add_standing(fold, order)
            self._add_promises(fold, facts.added)
            self._add_failures(order.events)
            self._add_stays(stays)
            self._add_spans(stays)

    def _is_selected(self, order: Order) -> bool:
        chosen = self._selection
        first = min((event.at for event in order.events), default=0)
        return (
            (chosen.since is None or first >= chosen.since)
            and (chosen.until is None or first < chosen.until)
            and (chosen.partner is None or order.fold.partner == chosen.partner)
        )

    def _add_standing(self, fold: Fold, order: Order) -> None:
        self._counts["orders"] += 1
        held_until = order.hold.until if order.hold else 0
        for name, label in model.standing(fold, self._now, self._plan, held_until):
            if self._selection.status in (None, label):
                self._counts[str(name)] += 1

    def _add_promises(self, fold: Fold, facts: Iterable[Fact]) -> None:
        self._promises.update(fact for fact in facts if fact[0] in (names.SLA_MET, names.SLA_BREACHED))
        for clock in fold.clocks:
            if clock.deadline and clock.at_risk <= self._now:
                late = clock.deadline <= self._now
                name = names.SLA_OVERDUE if late else names.SLA_AT_RISK
                self._promises[name, self._plan.clocks[clock.place].name, clock.partner] += 1

    def _add_failures(self, events: Iterable[Kept]) -> None:
        found = Counter((event.to, event.error_code or "unknown") for event in events if event.kind == FAILED)
        self._failed.update(found)
        self._orders_failed.update(found.keys())

    def _add_stays(self, stays: list[Visit]) -> None:
        self._reached.update({visit.status for visit in stays})
        for visit in stays:
            if not visit.proved or (visit.left_at is not None and visit.left_at < visit.entered_at):
                self._unproved[visit.status] += 1
            else:
                self._add_time(visit.status, visit.entered_at, visit.left_at)

    def _add_spans(self, stays: list[Visit]) -> None:
        for clock in self._plan.clocks:
            for run in runs(clock, stays):
                if run.void:
                    self._void[clock.name] += 1
                else:
                    self._add_time(f"span {clock.name}", run.started_at, run.ended_at)

    def _add_time(self, what: str, since: int, until: int | None) -> None:
        into = self._lasting if until is None else self._over
        into[what][max(0, (self._now if until is None else until) - since) // MILLISECOND] += 1

    def report(self) -> Report:
        """Return what was added up."""
        waiting, stuck = self._counts[names.IN_STATUS], self._counts[names.STUCK]
        return Report(
            at=self._now,
            selection=self._selection,
            orders=self._counts["orders"],
            waiting=waiting,
            stuck=stuck,
            on_hold=self._counts[names.ON_HOLD],
            stuck_share=_share(stuck, waiting),
            reached=[self._reached_by(status) for status in self._statuses()],
            spans=self._spans(),
            promises=self._kept(),
            failures=self._failures(),
            stays=[self._stay(status) for status in self._statuses() if status not in self._plan.terminal],
            unreadable=self._counts["unreadable"],
        )

    def _statuses(self) -> list[str]:
        chosen = self._selection.status
        unknown = sorted(self._reached.keys() - self._plan.lifecycle.statuses.keys())
        return [status for status in (*self._plan.lifecycle.statuses, *unknown) if chosen in (None, status)]

    def _reached_by(self, status: str) -> Reached:
        count = self._reached[status]
        return Reached(status, count, _share(count, self._counts["orders"]) or 0.0)

    def _stay(self, status: str) -> Stay:
        return Stay(status, self._unproved[status], self._times(status))

    def _spans(self) -> list[Span]:
        return [
            self._span(clock)
            for clock in self._plan.clocks
            if self._selection.status in (None, clock.start_status, clock.end_status)
        ]

    def _span(self, clock: Clock) -> Span:
        times = self._times(f"span {clock.name}")
        return Span(clock.name, clock.start_status, clock.end_status, self._void[clock.name], times)

    def _times(self, what: str) -> Times:
        found = estimate(self._over[what], self._lasting[what])
        average, p50, p95 = (None if time is None else time / 1000 for time in (found.average, found.p50, found.p95))
        return Times(found.finished, found.waiting, average, found.at_least, p50, p95)

    def _kept(self) -> list[Promise]:
        slas = self._plan.lifecycle.slas
        pairs = sorted({(str(name), str(partner)) for _, name, partner in self._promises})
        return [self._promise(name, partner, slas[name].objective) for name, partner in pairs]

    def _promise(self, sla: str, partner: str, objective: float) -> Promise:
        which = (names.SLA_MET, names.SLA_BREACHED, names.SLA_OVERDUE, names.SLA_AT_RISK)
        met, breached, overdue, at_risk = (self._promises[name, sla, partner] for name in which)
        return Promise(sla, partner, met, breached, overdue, at_risk, _share(met, met + breached), objective)

    def _failures(self) -> list[Failure]:
        chosen = self._selection.status
        return [
            Failure(*which, count, self._orders_failed[which])
            for which, count in sorted(self._failed.items(), key=lambda item: (-item[1], item[0]))
            if chosen in (None, which[0])
        ]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
