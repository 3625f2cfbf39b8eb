"""What is learned of the hours in which orders leave, and of the gaps between them."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_orders.ledger.rhythm import WEEKS, Rhythm
from tests.ledger.strategies import DAY, HOUR, MINUTE, SECOND, START

UTC, MOSCOW = ZoneInfo("UTC"), ZoneInfo("Europe/Moscow")
BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = START - 9 * HOUR
WEEK = 7 * DAY
FOREVER = 100 * WEEK


def learned(days: range, zone: ZoneInfo = UTC, opens: int = 9, closes: int = 18) -> Rhythm:
    """Return what is learned in days of working hours, weekends off, with orders that wait all the time."""
    rhythm = Rhythm()
    for day in days:
        for hour in range(24):
            at = MONDAY + day * DAY + hour * HOUR + MINUTE
            (rhythm.worked if day % 7 < 5 and opens <= hour < closes else rhythm.idle)(at, zone)
    return rhythm


def open_hours(rhythm: Rhythm, start: int, zone: ZoneInfo = UTC) -> list[int]:
    """Return which of the 24 hours from *start* on count."""
    return [hour for hour in range(24) if rhythm.open_time(start + hour * HOUR, start + (hour + 1) * HOUR, HOUR, zone)]


def test_before_anything_is_known_all_time_counts() -> None:
    assert Rhythm().open_time(MONDAY, MONDAY + 3 * DAY + 1, FOREVER, UTC) == 3 * DAY + 1


def test_nights_do_not_count_after_two_of_them_nor_the_hours_in_which_work_begins_and_ends() -> None:
    assert open_hours(learned(range(1)), MONDAY + DAY) == list(range(24))
    assert open_hours(learned(range(2)), MONDAY + 2 * DAY) == list(range(10, 17))


def test_weekends_do_not_count_after_one_of_them() -> None:
    known = learned(range(7))
    assert open_hours(known, MONDAY + WEEK + 5 * DAY) == []
    assert open_hours(known, MONDAY + WEEK) == list(range(10, 17))
    assert known.open_time(MONDAY + 4 * DAY + 16 * HOUR, MONDAY + WEEK + 11 * HOUR, FOREVER, UTC) == 2 * HOUR


def test_an_incident_does_not_close_an_hour() -> None:
    known = learned(range(14))
    for hour in range(9, 18):
        known.idle(MONDAY + 14 * DAY + hour * HOUR, UTC)
    assert open_hours(known, MONDAY + 21 * DAY) == list(range(10, 17))


def test_what_changed_is_learned_anew_within_weeks() -> None:
    known = learned(range(35))
    for day in range(35, 35 + 7 * WEEKS):
        for hour in range(24):
            (known.worked if day % 7 == 6 and 10 <= hour < 20 else known.idle)(MONDAY + day * DAY + hour * HOUR, UTC)
    assert len(known.weeks) == WEEKS
    assert open_hours(known, MONDAY + 70 * DAY) == []
    assert open_hours(known, MONDAY + 76 * DAY) == list(range(11, 19))


def test_what_comes_after_its_time_changes_only_weeks_that_are_remembered() -> None:
    known = learned(range(70))
    before = msgspec.json.encode(known)
    known.idle(MONDAY + 12 * HOUR, UTC)
    known.worked(MONDAY, UTC)
    assert msgspec.json.encode(known) == before


def test_an_hour_in_which_an_order_left_after_all_was_not_idle() -> None:
    known = learned(range(7))
    for week in range(1, 4):
        at = MONDAY + week * WEEK + 20 * HOUR
        known.idle(at, UTC)
        known.worked(at + 59 * MINUTE, UTC)
        known.idle(at, UTC)
    assert 20 in [
        hour for hour in range(24) if not known._closed()[hour]
    ]  # by itself; the hours beside it are closed still


def test_hours_are_those_of_the_clock_on_the_wall() -> None:
    winter = 1_767_571_200 * SECOND  # 2026-01-05 00:00 UTC, a Monday
    summer = winter + 16 * WEEK
    known = Rhythm()
    for week in range(14, 16):
        for hour in range(24 * 5):
            at = winter + week * WEEK + hour * HOUR
            local = (hour + (2 if week >= 12 else 1)) % 24
            (known.worked if 9 <= local < 18 else known.idle)(at, BERLIN)
    assert open_hours(known, summer, BERLIN) == list(range(8, 15))  # in summer, two hours from UTC
    assert open_hours(known, summer + 30 * WEEK, BERLIN) == list(range(9, 16))  # in winter, one


def test_it_stops_counting_where_enough_was_counted() -> None:
    assert Rhythm().open_time(0, 10**15 * SECOND, HOUR, UTC) == HOUR


@given(
    st.integers(0, 2 * WEEK),
    st.integers(-HOUR, 2 * WEEK),
    st.integers(0, 2 * WEEK),
    st.sampled_from((UTC, MOSCOW)),
)
def test_open_time_adds_up_and_never_exceeds_the_time_on_the_clock(
    start: int, first: int, second: int, zone: ZoneInfo
) -> None:
    known, start = learned(range(14)), MONDAY + start
    whole = known.open_time(start, start + max(first, 0) + second, FOREVER, zone)
    middle = start + max(first, 0)
    assert whole == known.open_time(start, middle, FOREVER, zone) + known.open_time(
        middle, middle + second, FOREVER, zone
    )
    assert 0 <= whole <= max(first, 0) + second
    assert known.open_time(start, start + first, FOREVER, zone) <= max(first, 0)


def test_the_usual_gap_is_what_most_do_not_exceed() -> None:
    known = Rhythm()
    for place in range(100):
        known.gap(START, HOUR if place % 25 == 0 else 15 * SECOND, UTC)
    assert known.usual_gap(START, UTC) == 16 * SECOND
    for _ in range(10):
        known.gap(START, HOUR, UTC)
    assert known.usual_gap(START, UTC) == 4096 * SECOND


def test_gaps_are_compared_with_those_of_such_hours() -> None:
    known = Rhythm()
    for place in range(40):
        known.gap(START, SECOND, UTC)
        known.gap(START + 12 * HOUR, MINUTE, UTC)
        known.gap(START + 5 * DAY, HOUR, UTC)
        if place < 19:
            known.gap(START - 6 * HOUR, SECOND, UTC)
    gaps = [known.usual_gap(START + offset, UTC) for offset in (0, 12 * HOUR, 5 * DAY, -6 * HOUR)]
    assert gaps == [SECOND, 64 * SECOND, 4096 * SECOND, None]


@pytest.mark.parametrize(
    ("gap", "bound"), [(0, 1), (1, 1), (SECOND, 1), (SECOND + 1, 2), (4 * SECOND, 4), (DAY, 2**17)]
)
def test_a_gap_is_known_up_to_the_next_power_of_two(gap: int, bound: int) -> None:
    known = Rhythm()
    for _ in range(20):
        known.gap(START, gap, UTC)
    assert known.usual_gap(START, UTC) == bound * SECOND


def test_older_gaps_count_less_and_what_is_kept_is_bounded() -> None:
    known = Rhythm()
    for place in range(20_000):
        known.gap(START, (1 if place < 15_000 else 60) * SECOND, UTC)
    assert known.usual_gap(START, UTC) == 64 * SECOND
    assert sum(known.gaps["workday 1"]) <= 2000


@given(st.lists(st.tuples(st.integers(0, 60 * DAY), st.booleans(), st.integers(0, 90 * DAY)), max_size=50))
def test_it_is_the_same_after_a_restart(seen: list[tuple[int, bool, int]]) -> None:
    known = Rhythm()
    for at, left, gap in seen:
        (known.worked if left else known.idle)(MONDAY + at, UTC)
        known.gap(MONDAY + at, gap, UTC)
    assert msgspec.json.decode(msgspec.json.encode(known), type=Rhythm) == known
