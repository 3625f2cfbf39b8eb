from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_orders.ledger.sla import add_working_time, clocks
from otel_orders.lifecycle import Calendar, parse_lifecycle
from tests.ledger.strategies import DAY, HOUR, LIFECYCLE, MINUTE, SECOND, START

ZONE = ZoneInfo("Europe/Berlin")
OFFICE = Calendar("office", "Europe/Berlin", frozenset(range(5)), (9 * 60, 18 * 60))
ROUND_THE_CLOCK = Calendar("always", "Europe/Berlin", frozenset(range(7)), (0, 24 * 60))
NIGHTS = Calendar("nights", "Europe/Berlin", frozenset(range(7)), (60, 4 * 60))
IN_THE_GAP = Calendar("gap", "Europe/Berlin", frozenset(range(7)), (150, 210))
"""Opens at 02:30, which one night in spring does not have and one in autumn has twice."""
NEVER_OPEN = Calendar("never", "Europe/Berlin", frozenset(), (540, 1080))


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("started", "hours", "deadline"),
    [
        pytest.param("2026-01-05T10:00", 2, "2026-01-05T12:00", id="inside a day"),
        pytest.param("2026-01-05T07:00", 2, "2026-01-05T11:00", id="before it opens"),
        pytest.param("2026-01-05T17:00", 2, "2026-01-06T10:00", id="over night"),
        pytest.param("2026-01-05T09:00", 9, "2026-01-05T18:00", id="to the minute that it closes"),
        pytest.param("2026-01-05T18:00", 1, "2026-01-06T10:00", id="when it closes"),
        pytest.param("2026-01-09T17:00", 2, "2026-01-12T10:00", id="over a weekend"),
        pytest.param("2026-01-10T12:00", 1, "2026-01-12T10:00", id="on a Saturday"),
        pytest.param("2026-01-05T09:00", 45, "2026-01-09T18:00", id="a working week"),
        pytest.param("2026-01-07T12:00", 90, "2026-01-21T12:00", id="two weeks, from the middle of a day"),
        pytest.param("2026-03-27T17:00", 2, "2026-03-30T10:00", id="over the night that loses an hour"),
        pytest.param("2026-10-23T17:00", 2, "2026-10-26T10:00", id="over the night that gains an hour"),
    ],
)
def test_a_clock_runs_in_working_hours_only(started: str, hours: int, deadline: str) -> None:
    assert add_working_time(OFFICE, at(started), hours * HOUR) == at(deadline)


@pytest.mark.parametrize(
    ("started", "hours"),
    [
        pytest.param("2026-03-28T12:00", 23, id="a day that loses an hour"),
        pytest.param("2026-03-29T01:30", 1, id="the hour that is left out"),
        pytest.param("2026-10-25T02:30", 1, id="the hour that comes twice"),
        pytest.param("2026-10-24T12:00", 25, id="a day that gains an hour"),
    ],
)
def test_round_the_clock_is_real_time_through_both_changes_of_the_clock(started: str, hours: int) -> None:
    assert add_working_time(ROUND_THE_CLOCK, at(started), hours * HOUR) == at(started) + hours * HOUR


@pytest.mark.parametrize(
    ("day", "worked"),
    [
        pytest.param("2026-03-28", 3, id="an ordinary night"),
        pytest.param("2026-03-29", 2, id="an hour less"),
        pytest.param("2026-10-25", 4, id="an hour more"),
    ],
)
def test_a_shift_through_a_change_of_the_clock_has_the_hours_that_were_worked(day: str, worked: int) -> None:
    opens, closes = at(f"{day}T01:00"), at(f"{day}T04:00")
    assert closes - opens == worked * HOUR
    assert add_working_time(NIGHTS, opens, worked * HOUR) == closes
    assert add_working_time(NIGHTS, opens, worked * HOUR + 1) > closes + 20 * HOUR


def test_a_calendar_that_never_opens_keeps_real_time() -> None:
    assert add_working_time(NEVER_OPEN, START, HOUR) == START + HOUR


SPRING, AUTUMN = at("2026-03-25T00:00"), at("2026-10-21T00:00")
TIMES = st.builds(
    lambda base, offset: base + offset, st.sampled_from((SPRING, AUTUMN, START)), st.integers(0, 10 * DAY)
)


CALENDARS = st.sampled_from((OFFICE, ROUND_THE_CLOCK, NIGHTS, IN_THE_GAP))


@given(CALENDARS, TIMES, st.integers(0, 10 * DAY), st.integers(1, 60 * HOUR))
def test_who_starts_later_is_due_no_earlier(calendar: Calendar, started: int, later: int, within: int) -> None:
    assert add_working_time(calendar, started, within) <= add_working_time(calendar, started + later, within)


@given(CALENDARS, TIMES, st.integers(1, 30 * HOUR), st.integers(1, 30 * HOUR))
def test_time_may_be_added_in_two_steps(calendar: Calendar, started: int, first: int, second: int) -> None:
    between = add_working_time(calendar, started, first)
    assert add_working_time(calendar, between, second) == add_working_time(calendar, started, first + second)


@given(st.sampled_from((OFFICE, NIGHTS)), TIMES, st.integers(1, 40 * 60))
def test_a_deadline_is_what_counting_the_open_minutes_gives(calendar: Calendar, started: int, minutes: int) -> None:
    started -= started % MINUTE
    now, left = started, minutes
    while left:
        left -= is_open(calendar, now)
        now += MINUTE
    assert add_working_time(calendar, started, minutes * MINUTE) == now


def is_open(calendar: Calendar, now: int) -> bool:
    local = datetime.fromtimestamp(now // SECOND, ZoneInfo(calendar.zone))
    return local.weekday() in calendar.days and calendar.hours[0] <= local.hour * 60 + local.minute < calendar.hours[1]


def test_four_fifths_of_the_time_are_counted_in_working_hours_too() -> None:
    clock = next(clock for clock in clocks(LIFECYCLE) if clock.name == "approved_in_a_working_day")
    friday_in_moscow = at("2026-01-09T15:00")  # 17:00 there: one hour of nine is left on Friday
    assert clock.deadline(friday_in_moscow) == at("2026-01-12T15:00")
    assert clock.at_risk(friday_in_moscow) == at("2026-01-12T15:00") - 9 * HOUR // 5


def test_clocks_keep_their_places_when_the_file_is_sorted_otherwise() -> None:
    """The lifecycle's hash is the same then, so stored orders are not folded anew."""
    head, slas = SMALL.split("slas:\n")
    swapped = parse_lifecycle("slas:\n".join((head, "".join(reversed(slas.splitlines(keepends=True))))))
    written = parse_lifecycle(SMALL)
    assert written.hash == swapped.hash
    assert [clock.name for clock in clocks(written)] == [clock.name for clock in clocks(swapped)]


def test_an_end_elsewhere_voids_what_an_order_left_open() -> None:
    shipped, closed = (
        next(clock for clock in clocks(LIFECYCLE) if clock.name == name)
        for name in ("shipped_in_3_weeks", "initiated_to_closed")
    )
    assert shipped.void_on == {"CANCELLED", "CLOSED"}
    assert closed.void_on == {"CANCELLED"}


SMALL = """
version: 1
statuses:
  A: {owner: us, initial: true, next: [B]}
  B: {owner: us, next: [C]}
  C: {owner: us, terminal: true}
owners:
  us: {services: [ours]}
slas:
  one: {from: A, to: B, within: 5m, objective: 0.9}
  two: {from: A, to: C, within: 5m, objective: 0.9}
"""


def test_a_promise_whose_end_was_passed_unseen_is_void() -> None:
    clock = next(clock for clock in clocks(LIFECYCLE) if clock.name == "price_in_5_minutes")
    assert {"MANUFACTURING_STARTED", "SHIPPED"} <= clock.void_on
    assert not {"FILE_UPLOADED", "SUBMITTED"} & clock.void_on


ZONES = (
    *("Europe/Moscow", "Europe/Berlin", "America/New_York", "Asia/Kolkata"),
    "Australia/Lord_Howe",  # half an hour
    "America/Havana",  # at midnight
    "Africa/Cairo",  # at midnight, on a Friday
)
CHANGES = (
    "2026-03-08",
    "2026-03-29",
    "2026-04-05",
    "2026-04-24",
    "2026-10-04",
    "2026-10-25",
    "2026-10-30",
    "2026-11-01",
)
AROUND_CHANGES = st.builds(
    lambda day, offset: at(f"{day}T00:00") + offset, st.sampled_from(CHANGES), st.integers(-3 * DAY, 2 * DAY)
)
WORK = st.sampled_from(((9 * 60, 18 * 60), (0, 24 * 60), (0, 12 * 60), (4 * 60, 24 * 60)))


@given(st.sampled_from(ZONES), WORK, AROUND_CHANGES, st.integers(1, 30 * 60))
def test_in_every_zone_a_deadline_is_what_counting_the_open_minutes_gives(
    zone: str, hours: tuple[int, int], started: int, minutes: int
) -> None:
    calendar = Calendar("any", zone, frozenset(range(6)), hours)
    started -= started % MINUTE
    now, left = started, minutes
    while left:
        left -= is_open(calendar, now)
        now += MINUTE
    assert add_working_time(calendar, started, minutes * MINUTE) == now
