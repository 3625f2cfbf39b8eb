"""Milestones and SLAs as clocks: when one starts, ends and is due.  Pure: a function of the lifecycle and of times.

A clock that runs on a working calendar stands still outside its hours; hours are local, so a day with a change to or
from daylight saving has an hour more or less.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec

from otel_orders import names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_orders.lifecycle import Calendar, Lifecycle, Milestone, Sla

SECOND = 1_000_000_000
GRACE = 120 * SECOND
"""A breach is counted this long after its deadline, so that a late event can still prove that it was met."""
MAX_DAYS = 3660
"""Days that are walked for a deadline at most: a calendar without working time must not loop for ever."""


class Clock(msgspec.Struct, frozen=True):
    """What starts, ends and voids one milestone or SLA.  within: ns, 0 for a milestone."""

    name: str
    metric: str
    start_status: str
    end_status: str
    start: str
    void_on: frozenset[str]
    within: int = 0
    calendar: Calendar | None = None

    @property
    def is_sla(self) -> bool:
        """Whether it has a deadline."""
        return self.within > 0

    def voided_by(self, status: str) -> bool:
        """Whether an order that enters *status* ends it without a result; starting again ends the run before."""
        return status in self.void_on or (status == self.start_status and self.start == "last")

    def deadline(self, started_at: int) -> int:
        """Return when an instance that started at *started_at* is due (unix ns), 0 for a milestone."""
        return self._after(started_at, self.within)

    def at_risk(self, started_at: int) -> int:
        """Return when an instance that started at *started_at* has used 80 % of its time (unix ns); or 0."""
        return self._after(started_at, self.within * 4 // 5)

    def _after(self, started_at: int, time: int) -> int:
        if not self.within:
            return 0
        if self.calendar is None:
            return started_at + time
        return add_working_time(self.calendar, started_at, time)


def clocks(lifecycle: Lifecycle) -> tuple[Clock, ...]:
    """Return the clocks of *lifecycle*: its milestones, then its SLAs.

    By name: stored orders know a clock by its place, and in the file its place means nothing.
    """
    milestones = sorted(lifecycle.milestones.values(), key=lambda milestone: milestone.name)
    slas = sorted(lifecycle.slas.values(), key=lambda sla: sla.name)
    return (
        *(_clock(names.MILESTONE, milestone, lifecycle) for milestone in milestones),
        *(_clock(names.SLA_MET, sla, lifecycle) for sla in slas),
    )


def _clock(metric: str, span: Milestone | Sla, lifecycle: Lifecycle) -> Clock:
    # An order that can no longer come to the end voids what it left open: a cancelled order keeps no promise and breaks
    # none; and where the end was passed unseen, its missing event decides if it still comes, not the deadline.
    ends = {name for name, ahead in lifecycle.forward.items() if span.end_status not in ahead} - {span.end_status}
    calendar = getattr(span, "calendar", None)
    return Clock(
        name=span.name,
        metric=metric,
        start_status=span.start_status,
        end_status=span.end_status,
        start=span.start,
        void_on=frozenset(span.void_on) | ends,
        within=int(getattr(span, "within", 0)),
        calendar=lifecycle.calendars[calendar] if calendar else None,
    )


def add_working_time(calendar: Calendar, started_at: int, within: int) -> int:
    """Return when *within* ns of *calendar*'s working time have passed since *started_at* (unix ns)."""
    left, now = within, started_at
    for opens, closes in _working_hours(calendar, started_at):
        begin = max(now, opens)
        if begin < closes:
            if closes - begin >= left:
                return begin + left
            left -= closes - begin
    return started_at + within  # a calendar that never opens keeps no clock


def working_time(calendar: Calendar, since: int, until: int) -> int:
    """Return how much of *calendar*'s working time (ns) lies between two moments (unix ns)."""
    total = 0
    for opens, closes in _working_hours(calendar, since):
        if opens >= until:
            break
        total += max(0, min(closes, until) - max(opens, since))
    return total


def _working_hours(calendar: Calendar, since: int) -> Iterable[tuple[int, int]]:
    """Yield (opens, closes) in unix ns for each working day from the day of *since* on."""
    today = datetime.fromtimestamp(since // SECOND, UTC).astimezone(_zone(calendar.zone)).toordinal()
    for day in range(today, today + MAX_DAYS):
        if date.fromordinal(day).weekday() in calendar.days:
            yield _hours_of(calendar, day)


@lru_cache(maxsize=4096)
def _hours_of(calendar: Calendar, day: int) -> tuple[int, int]:
    """Return when *calendar* opens and closes on *day* (a proleptic ordinal), by the wall clock, in unix ns."""
    midnight = datetime.combine(date.fromordinal(day), time(), _zone(calendar.zone))
    opens, closes = (midnight + timedelta(minutes=minutes) for minutes in calendar.hours)
    return int(opens.timestamp()) * SECOND, int(closes.timestamp()) * SECOND


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
