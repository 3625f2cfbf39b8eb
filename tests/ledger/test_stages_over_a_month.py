"""A month of simulated orders, with nights, weekends and lost messages: every incident is found, and nothing else."""

from __future__ import annotations

import random
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pytest

from otel_orders.ledger import learning
from otel_orders.ledger.rhythm import Rhythm
from otel_orders.ledger.stages import SEVERAL, STALLED, Habit, Look, Verdict, judge
from otel_orders.lifecycle import Calendar, Duration
from tests.ledger.strategies import DAY, HOUR, LIFECYCLE, MINUTE, START

pytestmark = [pytest.mark.slow, pytest.mark.no_cover]

UTC = ZoneInfo("UTC")
MONDAY = START - 9 * HOUR
TICK = 5 * MINUTE
DAYS = 35
MANY = 5
OFFICE = Calendar("office", "UTC", frozenset(range(5)), (9 * 60, 18 * 60))


class Stage(NamedTuple):
    """How orders come to a stage and leave it.

    by_day, by_night: orders an hour that come.  hours: in which the work is done, on days.  takes: how many one order
    takes, at least.  at_once: how many leave in a tick at most.
    """

    stalled_after: int
    by_day: float
    by_night: float
    hours: tuple[int, int] = (0, 24)
    days: tuple[int, ...] = tuple(range(7))
    takes: int = 0
    at_once: int = 5
    calendar: Calendar | None = None

    def works(self, at: int) -> bool:
        since = at - MONDAY
        return since // DAY % 7 in self.days and self.hours[0] <= since % DAY // HOUR < self.hours[1]


MACHINES = Stage(30 * MINUTE, by_day=40, by_night=4)
"""Pricing workers: they never sleep, and little comes at night."""
PEOPLE = Stage(HOUR, by_day=10, by_night=1, hours=(9, 18), days=tuple(range(5)))
"""Approvals: orders come at any time, and wait for the office to open."""
RARE = Stage(6 * HOUR, by_day=0.3, by_night=0.05, hours=(9, 18), days=tuple(range(5)), takes=90 * MINUTE)
"""A few orders a day, each of which takes its time."""

Span = tuple[int, int]
"""From when to when, unix ns."""


class Played(NamedTuple):
    """stalls: when the stage was called stalled.  lost: how many orders were lost on the way."""

    stalls: list[Span]
    lost: int


def play(stage: Stage, incidents: list[Span], seed: int) -> Played:
    """Let DAYS pass, in which nothing leaves during *incidents*.

    An order is lost now and then where others soon follow: one that is lost where none does cannot be told from a stage
    that stands still.
    """
    rng = random.Random(seed)
    status = msgspec.structs.replace(LIFECYCLE.statuses["SUBMITTED"], stalled_after=Duration(stage.stalled_after))
    habit, verdict, before = Habit(Rhythm(), UTC, stage.calendar), Verdict(), None
    waiting: list[int] = []
    lost: list[int] = []
    left_at, passed, stalls = None, 0, []
    for at in range(MONDAY, MONDAY + DAYS * DAY, TICK):
        rate = stage.by_day if 8 <= (at - MONDAY) % DAY // HOUR < 22 else stage.by_night
        waiting += [at] * sum(rng.random() < rate * TICK / HOUR / 4 for _ in range(3))
        if stage.works(at) and not any(start <= at < end for start, end in incidents):
            for _ in range(stage.at_once):
                if waiting and waiting[0] + stage.takes * rng.uniform(1, 2) <= at:
                    if rate >= MANY and rng.random() < 0.003:
                        lost.append(waiting.pop(0))
                    else:
                        passed, left_at = max(passed, waiting.pop(0)), at - rng.randrange(TICK)
        all_ = sorted(lost + waiting)
        abreast = [came for came in all_ if came >= passed]
        first = abreast[0] if abreast else None
        look = Look(status, at, MONDAY, len(all_), min(len(abreast), SEVERAL), first, left_at)
        was, verdict = verdict, judge(look, habit, (), {}, verdict).verdict
        if before is not None and learning.new_departure(look, before) is not None:
            learning.learn_gap(habit, look, before)
        learning.learn_hours(habit, look, before, verdict, MONDAY)
        before = look
        if verdict.state == STALLED != was.state:
            stalls.append((at, MONDAY + DAYS * DAY))
        elif verdict.state != STALLED == was.state:
            stalls[-1] = (stalls[-1][0], at)
    return Played(stalls, len(lost))


def some_incidents(stage: Stage, rng: random.Random, length: int) -> list[Span]:
    """Return one incident in the middle of the working hours of each third day, once two weeks were learned."""
    opens, closes = stage.hours
    found = []
    for day in range(14, DAYS - 1, 3):
        if day % 7 in stage.days:
            start = MONDAY + day * DAY + rng.randint(opens + 1, max(opens + 1, closes - 2 - length // HOUR)) * HOUR
            found.append((start, start + length))
    return found


def wrong(incidents: list[Span], stalls: list[Span], within: int, after: int) -> list[str]:
    """Return which of *incidents* were found too late or stayed for too long, and what was none."""
    told = []
    for start, end in incidents:
        found = [stall for stall in stalls if start <= stall[0] < end]
        if len(found) != 1 or found[0][0] > start + within or found[0][1] > end + after:
            told.append(f"incident of {hour(start)} to {hour(end)}: {[(hour(a), hour(b)) for a, b in found]}")
    for first, _ in stalls:
        if not any(start <= first < end for start, end in incidents):
            told.append(f"nothing was wrong at {hour(first)}")
    return told


def hour(at: int) -> str:
    return f"day {(at - MONDAY) // DAY} {(at - MONDAY) % DAY / HOUR:.1f} h"


SEEDS = pytest.mark.parametrize("seed", range(4))


@SEEDS
def test_every_outage_of_machines_is_found_in_its_limit_by_day_and_by_night(seed: int) -> None:
    incidents = some_incidents(MACHINES, random.Random(seed), 2 * HOUR)
    played = play(MACHINES, incidents, seed)
    assert played.lost
    # By night an order comes every 15 minutes or so, and only then somebody waits.
    assert wrong(incidents, played.stalls, 30 * MINUTE + HOUR, 30 * MINUTE) == []


@SEEDS
@pytest.mark.parametrize("calendar", [None, OFFICE])
def test_when_people_do_not_work_is_learned_or_told_and_when_they_stop_in_their_hours_is_found(
    seed: int, calendar: Calendar | None
) -> None:
    stage = PEOPLE._replace(calendar=calendar)
    incidents = some_incidents(stage, random.Random(seed), 3 * HOUR)
    played = play(stage, incidents, seed)
    # Nights are learned in two days, weekends in one: what comes after them is judged here.  A calendar knows both.
    stalls = [stall for stall in played.stalls if calendar or stall[0] >= MONDAY + 7 * DAY]
    assert incidents
    assert wrong(incidents, stalls, HOUR + HOUR // 2, HOUR) == []


@SEEDS
def test_a_stage_of_few_orders_raises_nothing_and_is_found_when_nothing_leaves_for_days(seed: int) -> None:
    incidents = [(MONDAY + 21 * DAY + 10 * HOUR, MONDAY + 25 * DAY)]
    stalls = [stall for stall in play(RARE, incidents, seed).stalls if stall[0] >= MONDAY + 7 * DAY]
    assert wrong(incidents, stalls, 3 * DAY, DAY) == []


def test_the_first_weekend_is_the_price_of_knowing_nothing() -> None:
    """Said in the README; a calendar avoids it."""
    days = {(start - MONDAY) // DAY for start, _ in play(PEOPLE, [], 1).stalls}
    assert days <= {0, 1, 5, 6}
    assert play(PEOPLE._replace(calendar=OFFICE), [], 1).stalls == []
