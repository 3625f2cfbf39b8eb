"""The verdict on a stage: what is said when, and what never is."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_orders.ledger.rhythm import Rhythm
from otel_orders.ledger.stages import BLIND, FLOWING, STALLED, Habit, Judged, Look, Mover, Verdict, judge, movers
from otel_orders.lifecycle import Calendar, parse_lifecycle
from tests.ledger.strategies import DAY, HOUR, LIFECYCLE, MINUTE, SECOND, START

UTC = ZoneInfo("UTC")
SUBMITTED = LIFECYCLE.statuses["SUBMITTED"]  # stalled after 30 min, the MES's, which is quiet after 2 min
WORKER = (Mover("pricing-worker", 2 * MINUTE),)
NEW = Verdict()
LIMIT = 30 * MINUTE


def look(at: int = START, **fields: Any) -> Look:
    """Return a look at a stage in which three orders wait, the last of which left long ago."""
    known: dict[str, Any] = {"listening": START - 9 * DAY, "orders": 3, "expected": 2, "came_at": at - DAY}
    return Look(**{"status": SUBMITTED, "at": at, "left_at": at - DAY, **known, **fields})


def habit(rhythm: Rhythm | None = None, calendar: Calendar | None = None) -> Habit:
    return Habit(rhythm or Rhythm(), UTC, calendar)


def verdict(seen: Look, beats: dict[tuple[str, str], int] | None = None, before: Verdict = NEW, **more: Any) -> Judged:
    alive = {("pricing-worker", ""): seen.at}
    return judge(
        seen, more.get("habit", habit()), more.get("moving", WORKER), alive if beats is None else beats, before
    )


def state(seen: Look, beats: dict[tuple[str, str], int] | None = None, before: Verdict = NEW, **more: Any) -> str:
    return verdict(seen, beats, before, **more).verdict.state


@pytest.mark.parametrize(("since", "expected"), [(LIMIT - 1, FLOWING), (LIMIT, STALLED)])
@pytest.mark.parametrize("field", ["left_at", "came_at", "listening"])
def test_a_stage_is_stalled_when_it_was_silent_for_its_limit(field: str, since: int, expected: str) -> None:
    """Since the last order left, since the first came, and since anybody listened."""
    assert state(look(**{field: START - since})) == expected


def test_the_evidence_says_it_in_words() -> None:
    rhythm = Rhythm()
    for _ in range(30):
        rhythm.gap(START, 14 * SECOND, UTC)
    seen = look(
        orders=31,
        left_at=START - 34 * MINUTE,
        came_at=START - 33 * MINUTE,
        queues=("queue pricing.requests holds 31, no consumer",),
    )
    told = verdict(seen, {("pricing-worker", ""): START - 5 * MINUTE}, habit=habit(rhythm))
    assert told.verdict.state == BLIND
    assert told.evidence == (
        "pricing-worker has been quiet for 5 min; an order left SUBMITTED 34 min ago;"
        " queue pricing.requests holds 31, no consumer"
    )
    told = verdict(seen._replace(deserted=True), {("pricing-worker", ""): START - 5 * MINUTE}, habit=habit(rhythm))
    assert told.verdict == Verdict(STALLED, START)
    assert told.evidence == (
        "no order has left SUBMITTED for 34 min (usual gap 16 s); 31 orders wait, the first for 33 min;"
        " queue pricing.requests holds 31, no consumer; pricing-worker has been quiet for 5 min"
    )


def test_a_stage_that_flows_tells_when_it_last_moved() -> None:
    seen = look(left_at=START - 20 * SECOND, queues=("queue pricing.requests is empty, 2 consumers",))
    expected = "an order left SUBMITTED 20 s ago; queue pricing.requests is empty, 2 consumers"
    assert verdict(seen) == (NEW, expected)
    assert verdict(look(left_at=None, orders=0, came_at=None)).evidence == "no order has left SUBMITTED yet"


def test_nobody_who_waits_is_no_stall() -> None:
    assert state(look(orders=0, came_at=None)) == FLOWING


def test_a_stage_without_a_limit_is_never_called_stalled() -> None:
    status = msgspec.structs.replace(SUBMITTED, stalled_after=None)
    assert state(look(status=status, orders=1000)) == FLOWING


@pytest.mark.parametrize("orders", [1, 5, 1000])
def test_an_order_that_was_overtaken_or_is_on_hold_waits_for_a_reason_of_its_own(orders: int) -> None:
    assert state(look(orders=orders, expected=0, came_at=None)) == FLOWING


def test_one_that_came_after_the_last_that_left_is_not_overtaken() -> None:
    assert state(look(orders=2, expected=1, came_at=START - LIMIT)) == STALLED


@pytest.mark.parametrize("minutes", [1, 31])
def test_those_on_hold_are_told_whatever_the_stage_does(minutes: int) -> None:
    told = verdict(look(came_at=START - minutes * MINUTE, on_hold=2, queues=("queue q is empty",)))
    assert told.evidence.endswith("; 2 on hold; queue q is empty")


def with_gaps(gap: int) -> Habit:
    rhythm = Rhythm()
    for _ in range(100):
        rhythm.gap(START, gap, UTC)
    return habit(rhythm)


def test_where_gaps_are_usually_long_it_takes_four_of_them() -> None:
    usual = with_gaps(2048 * SECOND)
    assert state(look(left_at=START - 4 * 2048 * SECOND + 1), habit=usual) == FLOWING
    assert state(look(left_at=START - 4 * 2048 * SECOND), habit=usual) == STALLED


@given(st.integers(0, 3 * DAY), st.integers(0, 3 * DAY))
def test_one_order_that_waits_alone_goes_by_stalled_after_whatever_gaps_are_usual(gap: int, since: int) -> None:
    seen = look(orders=1, expected=1, came_at=START - since)
    assert state(seen, habit=with_gaps(gap)) == (STALLED if since >= LIMIT else FLOWING)


def test_few_gaps_say_nothing_about_what_is_usual() -> None:
    rhythm = Rhythm()
    for _ in range(19):
        rhythm.gap(START, HOUR, UTC)
    assert state(look(left_at=START - LIMIT), habit=habit(rhythm)) == STALLED


def test_outside_its_calendar_a_stage_is_not_silent() -> None:
    workdays = LIFECYCLE.calendars["workdays"]  # Moscow, 06:00 to 15:00 UTC
    monday = START - 9 * HOUR
    friday = monday - 3 * DAY
    last = {"left_at": friday + 14 * HOUR + 45 * MINUTE, "came_at": friday + 14 * HOUR}
    for at, expected in ((monday + 6 * HOUR + 14 * MINUTE, FLOWING), (monday + 6 * HOUR + 15 * MINUTE, STALLED)):
        assert state(look(at, **last), habit=habit(calendar=workdays)) == expected
    told = verdict(look(monday, **last), habit=habit(calendar=workdays))
    assert "nothing is expected to leave at this hour" in told.evidence


STALL = Verdict(STALLED, START - HOUR)


def test_a_stalled_stage_flows_when_orders_have_left_again_for_a_while() -> None:
    first = START + SECOND
    seen = look(first + SECOND, left_at=first)
    again = verdict(seen, before=Verdict(STALLED, START)).verdict
    assert again == Verdict(STALLED, START, first)
    assert state(look(first + 59 * SECOND, left_at=first + 50 * SECOND), before=again) == STALLED
    assert state(look(first + 60 * SECOND, left_at=first + 50 * SECOND), before=again) == FLOWING


def test_one_order_that_somebody_helps_through_does_not_make_it_flow() -> None:
    again = verdict(look(START + SECOND, left_at=START), before=STALL).verdict
    assert again.resumed_at == START
    later = verdict(look(START + LIMIT // 2, left_at=START), before=again).verdict
    assert later == STALL
    assert state(look(START + DAY, left_at=START), before=later) == STALLED


def test_a_stalled_stage_flows_when_nobody_waits_any_more() -> None:
    assert verdict(look(orders=0, came_at=None), before=STALL).verdict == Verdict(FLOWING, START)


def test_a_night_does_not_heal_a_stage() -> None:
    workdays = LIFECYCLE.calendars["workdays"]
    assert state(look(START + 10 * HOUR), before=STALL, habit=habit(calendar=workdays)) == STALLED


@pytest.mark.parametrize(("age", "expected"), [(2 * MINUTE, FLOWING), (2 * MINUTE + 1, BLIND)])
def test_a_stage_is_blind_when_who_moves_it_was_not_heard(age: int, expected: str) -> None:
    seen = look(orders=0, came_at=None)
    assert state(seen, {("pricing-worker", ""): START - age}) == expected


def test_it_sees_again_when_it_is_heard_well_before_it_would_be_quiet() -> None:
    blind = Verdict(BLIND, START - HOUR)
    assert state(look(), {("pricing-worker", ""): START - MINUTE - 1}, blind) == BLIND
    assert state(look(), {("pricing-worker", ""): START - MINUTE}, blind) == STALLED


@given(
    st.integers(0, 3 * DAY),
    st.integers(0, 3 * DAY),
    st.integers(0, 50),
    st.sampled_from((NEW, STALL, Verdict(BLIND, START - HOUR))),
)
def test_blind_wins_over_stalled_unless_the_broker_says_that_nobody_consumes(
    left: int, quiet: int, orders: int, before: Verdict
) -> None:
    seen = look(orders=orders, left_at=START - left)
    beats = {("pricing-worker", ""): START - quiet}
    if quiet > 2 * MINUTE and left > 2 * MINUTE:
        assert state(seen, beats, before) == BLIND
    assert state(seen._replace(deserted=True), beats, before) != BLIND
    if quiet <= MINUTE:
        assert state(seen, beats, before) != BLIND


def test_events_that_are_heard_are_a_sign_of_life_too() -> None:
    assert state(look(left_at=START - 2 * MINUTE), {("pricing-worker", ""): START - DAY}) == FLOWING


def test_a_ledger_that_was_away_first_listens() -> None:
    beats = {("pricing-worker", ""): START - DAY}
    assert state(look(listening=START - MINUTE), beats) == FLOWING
    assert state(look(listening=START - 2 * MINUTE - 1), beats) == BLIND


def test_one_that_was_never_heard_did_not_go_quiet() -> None:
    assert state(look(), {("mes-api", ""): START - DAY}) == STALLED


@pytest.mark.parametrize(
    ("beats", "expected"),
    [
        ({"": 0}, FLOWING),
        ({"": 0, "worker": HOUR}, BLIND),
        ({"web": HOUR, "worker": HOUR}, BLIND),
        ({"web": 0, "worker": DAY + 1}, FLOWING),  # it was given up for good
        ({"web": 2 * DAY, "worker": 2 * DAY}, BLIND),
    ],
)
def test_a_role_that_nobody_plays_any_more_is_quiet_until_it_was_given_up(beats: dict[str, int], expected: str) -> None:
    """Instances of one role stand for each other: only the last of them is known here."""
    heard = {("pricing-worker", role): START - age for role, age in beats.items()}
    assert state(look(orders=0, came_at=None), heard) == expected


def test_all_who_move_a_stage_must_be_quiet() -> None:
    both = (Mover("mes-api", 2 * MINUTE), Mover("pricing-worker", 2 * MINUTE))
    beats = {("mes-api", ""): START, ("pricing-worker", "worker"): START - HOUR}
    told = verdict(look(), beats, moving=both)
    assert told.verdict.state == STALLED
    assert "pricing-worker (worker) has been quiet for 1 h" in told.evidence


def test_who_moves_a_stage_is_the_consumer_of_its_queue_if_that_is_its_owners() -> None:
    moving = {name: [mover.service for mover in movers(LIFECYCLE.statuses[name], LIFECYCLE)] for name in WHO_MOVES}
    assert moving == WHO_MOVES


WHO_MOVES = {
    "SUBMITTED": ["pricing-worker"],
    "SHIPPED": ["crm-api"],  # the B2B entry reads of it too, and is the shop's
    "MANUFACTURING_STARTED": ["mes-api", "pricing-worker"],  # no queue
    "MANUFACTURING_COMPLETED": [],  # the old MES cannot send heartbeats
}


def test_a_stage_whose_owner_cannot_send_heartbeats_is_judged_by_events_only() -> None:
    assert state(look(), {}, moving=()) == STALLED
    assert state(look(left_at=START), {}, moving=()) == FLOWING


@given(
    st.integers(-10 * MINUTE, 10 * MINUTE),
    st.lists(st.integers(0, 10 * MINUTE), min_size=1, max_size=30),
)
def test_the_clocks_of_services_flip_nothing(skew: int, pauses: list[int]) -> None:
    """Orders keep leaving at most 10 minutes apart; when they came is told by a clock that is wrong."""
    at, before = START, NEW
    for pause in pauses:
        left_at, at = at, at + pause
        told = verdict(look(at, left_at=left_at, came_at=left_at + skew), before=before)
        assert told.verdict.state == FLOWING
        before = told.verdict


def test_a_calendar_may_be_named_for_a_status() -> None:
    text = """
version: 1
statuses:
  INITIATED: {owner: us, initial: true, next: [CLOSED], stalled_after: 1h, calendar: workdays}
  CLOSED: {owner: us, terminal: true}
owners: {us: {services: [shop-api]}}
calendars: {workdays: {zone: UTC, days: mon-fri, hours: "09:00-18:00"}}
"""
    assert parse_lifecycle(text).statuses["INITIATED"].calendar == "workdays"
