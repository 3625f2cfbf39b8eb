"""When orders usually leave a stage, and how long it is usually silent in between: learned, or by a calendar.  Pure.

An hour of the week in which orders waited again and again and none ever left is closed: nights and weekends are not
silence.  Nor are the hours beside it, in which work begins and ends at some minute.  An hour of which little is known
goes by the same hour of other working days, or of other weekends; and one of which nothing is known is open.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable
    from zoneinfo import ZoneInfo

SECOND: Final = 1_000_000_000
HOUR: Final = 3600 * SECOND
HOURS: Final = 168
"""Hours of a week."""
WEEKS: Final = 5
"""Weeks that are remembered: enough for a pattern, few enough to follow when it changes."""
KNOWN: Final = 2
"""How often an hour must have been seen before it can be closed."""
CLOSED: Final = 0.2
"""Share of the times, at most, in which orders left in an hour that is closed all the same."""

ENOUGH_GAPS: Final = 20
"""Gaps that must be known before anything is said about what is usual."""
MOST_GAPS: Final = 2000
"""Gaps after which older ones begin to count less."""
LONGEST: Final = 21
"""The last bucket of gaps: up to 2**21 s, 24 days."""
SATURDAY: Final = 5


class Week(msgspec.Struct, array_like=True):
    """What was seen in one week.  Bits, one for each hour from Monday 00:00, in hexadecimal digits.

    worked: orders left.  idle: orders waited for the whole hour, and none left.
    """

    number: int
    worked: str = "0"
    idle: str = "0"


class Rhythm(msgspec.Struct):
    """What was learned of one stage.  gaps: by time of the day, how many gaps of up to 1, 2, 4, 8 ... seconds."""

    weeks: list[Week] = []
    gaps: dict[str, list[int]] = {}

    def worked(self, at: int, zone: ZoneInfo) -> None:
        """Note that an order left at *at* (unix ns)."""
        week, hour = self._week(at, zone)
        if week is not None:
            week.worked = f"{int(week.worked, 16) | 1 << hour:x}"

    def idle(self, at: int, zone: ZoneInfo) -> None:
        """Note that orders waited for the whole hour around *at* (unix ns), and none left."""
        week, hour = self._week(at, zone)
        if week is not None and not int(week.worked, 16) >> hour & 1:
            week.idle = f"{int(week.idle, 16) | 1 << hour:x}"

    def gap(self, at: int, gap: int, zone: ZoneInfo) -> None:
        """Note that *gap* ns went by before an order left at *at* (unix ns), though one had been waiting."""
        counts = self.gaps.setdefault(_part(at, zone), [0] * (LONGEST + 1))
        counts[min((max(gap, 1) - 1) // SECOND, 2**LONGEST - 1).bit_length()] += 1
        if sum(counts) > MOST_GAPS:
            counts[:] = [count // 2 for count in counts]

    def usual_gap(self, at: int, zone: ZoneInfo) -> int | None:
        """Return what 95 % of the gaps at such a time of the day do not exceed (ns); None where too few are known."""
        counts = self.gaps.get(_part(at, zone), [])
        if (total := sum(counts)) < ENOUGH_GAPS:
            return None
        seen = 0
        for place, count in enumerate(counts):
            seen += count
            if seen >= 0.95 * total:
                return (1 << place) * SECOND
        return None

    def open_time(self, since: int, until: int, at_most: int, zone: ZoneInfo) -> int:
        """Return how much of the time between two moments (unix ns) orders could be expected to leave; ns."""
        if until - since <= 0:
            return 0
        closed = self._closed()
        total, now = 0, since
        while now < until and total < at_most:
            end = min((now // HOUR + 1) * HOUR, until)  # zones are whole hours from UTC, or nearly so
            hour = _hour(now, zone)[1]
            if not (closed[hour] or closed[hour - 1] or closed[(hour + 1) % HOURS]):
                total += end - now
            now = end
        return min(total, at_most)

    def _week(self, at: int, zone: ZoneInfo) -> tuple[Week | None, int]:
        """Return what is known of the week of *at*, None where it is too long ago, and the hour of the week."""
        number, hour = _hour(at, zone)
        known = {week.number: week for week in self.weeks}
        if number not in known:
            known[number] = Week(number)
            self.weeks = [known[one] for one in sorted(known)[-WEEKS:]]
        return (known[number] if number >= self.weeks[0].number else None), hour

    def _closed(self) -> list[bool]:
        weeks = [(int(week.worked, 16), int(week.idle, 16)) for week in self.weeks]
        seen = [_times(weeks, [hour]) for hour in range(HOURS)]
        alike = [_times(weeks, hours) for hours in _ALIKE]
        return [_is_closed(*times) if sum(times) >= KNOWN else _is_closed(*alike[h]) for h, times in enumerate(seen)]


_ALIKE: Final = [
    [day * 24 + hour % 24 for day in range(7) if (day >= SATURDAY) is (hour // 24 >= SATURDAY)] for hour in range(HOURS)
]
"""For each hour, the same hour of the other working days, or of the weekend."""


def _times(weeks: Iterable[tuple[int, int]], hours: Iterable[int]) -> tuple[int, int]:
    """Return in how many of *hours*, over all *weeks*, orders left, and in how many they only waited."""
    mask = sum(1 << hour for hour in hours)
    worked = idle = 0
    for left, waited in weeks:
        worked += (left & mask).bit_count()
        idle += (waited & ~left & mask).bit_count()
    return worked, idle


def _is_closed(worked: int, idle: int) -> bool:
    return worked + idle >= KNOWN and worked <= CLOSED * (worked + idle)


def _hour(at: int, zone: ZoneInfo) -> tuple[int, int]:
    """Return the week (since year 1) and the hour of the week of *at* (unix ns), by the clock on the wall."""
    return _hour_of(at // HOUR, zone)


@lru_cache(maxsize=4096)
def _hour_of(hours: int, zone: ZoneInfo) -> tuple[int, int]:
    local = datetime.fromtimestamp(hours * 3600, UTC).astimezone(zone)
    return (local.toordinal() - 1) // 7, local.weekday() * 24 + local.hour


def _part(at: int, zone: ZoneInfo) -> str:
    """Return the kind of day and the quarter of it, such as ``workday 2``: the hours among which gaps are compared."""
    hour = _hour(at, zone)[1]
    return f"{'weekend' if hour // 24 >= SATURDAY else 'workday'} {hour % 24 // 6}"
