"""How a lifecycle file writes durations, days, hours, bindings and the like.

Every parser takes what stands in the file, of any type, and raises ValueError with a sentence that starts with what was
expected.  Knows nothing of the file, of the fields that hold these values, or of lines.
"""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo

_UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_DURATION = re.compile("".join(f"(?:([0-9]{{1,12}}){unit})?" for unit in _UNITS))
_CENTURY = 36_525 * 86_400 * 10**9
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"([0-9]{2}):([0-5][0-9])-([0-9]{2}):([0-5][0-9])")


class Duration(int):
    """A length of time in nanoseconds.  Its text is how a lifecycle file writes it: ``1h30m``."""

    __slots__ = ()

    @property
    def seconds(self) -> float:
        """The same in seconds."""
        return self / 1e9

    def __str__(self) -> str:
        text, rest = "", self // 1_000_000
        for unit, size in _UNITS.items():
            count, rest = divmod(rest, size)
            text += f"{count}{unit}" if count else ""
        return text or "0ms"


def shown(value: object) -> str:
    """Return what stands in the file as an error message quotes it."""
    return "nothing" if value is None else repr(value)[:60]


def parse_duration(text: str) -> Duration:
    """Return the duration that *text* writes: ``500ms``, ``20s``, ``5m``, ``24h``, ``1d``, ``3w``, ``1h30m``.

    Raises ValueError for anything else, for nothing (``0s``) and for more than a hundred years.
    """
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    counts = zip(match.groups(), _UNITS.values(), strict=True) if match else ()
    total = sum(int(count) * size * 1_000_000 for count, size in counts if count)
    if not 0 < total <= _CENTURY:
        raise ValueError(f"expected a duration such as 500ms, 20s, 5m, 24h, 3w or 1h30m, got {shown(text)}")
    return Duration(total)


def parse_days(text: object) -> frozenset[int]:
    """Return the weekdays of ``mon-fri``, ``mon,wed,sat`` or ``sun-thu``; 0 is Monday."""
    days: set[int] = set()
    try:
        for part in str(text).lower().split(","):
            first, dash, last = part.strip().partition("-")
            start = _DAYS.index(first)
            length = (_DAYS.index(last) - start) % 7 if dash else 0
            days.update((start + offset) % 7 for offset in range(length + 1))
    except ValueError:
        raise ValueError(f"expected days such as mon-fri or mon,wed,sat, got {shown(text)}") from None
    return frozenset(days)


def parse_hours(text: object) -> tuple[int, int]:
    """Return the first and the last minute of the day of ``09:00-18:00``."""
    match = _HOURS.fullmatch(str(text))
    hour, minute, last_hour, last_minute = map(int, match.groups()) if match else (0, 0, 0, 0)
    start, end = hour * 60 + minute, last_hour * 60 + last_minute
    if not start < end <= 24 * 60:
        raise ValueError(f'expected hours such as "09:00-18:00", the end after the start, got {shown(text)}')
    return start, end


def parse_zone(text: object) -> str:
    """Return the name of a time zone that this machine knows."""
    try:
        return ZoneInfo(str(text)).key
    except (KeyError, ValueError, OSError):
        raise ValueError(f"expected a time zone such as Europe/Moscow, got {shown(text)}") from None


def parse_bindings(texts: object) -> tuple[tuple[str, str], ...]:
    """Return pairs of exchange and routing key from a list of ``exchange:key``."""
    pairs = [str(text).partition(":") for text in texts] if isinstance(texts, list) else [("", "", "")]
    if not all(exchange and colon for exchange, colon, _ in pairs) or len(set(pairs)) < len(pairs):
        raise ValueError(f'expected a list of different "exchange:routing key", got {shown(texts)}')
    return tuple((exchange, key) for exchange, _, key in pairs)


def parse_heartbeat(text: object) -> bool:
    """Return False for ``none``, the only thing that is ever written: services send heartbeats."""
    if text != "none":
        raise ValueError(f"expected none, or to be left out, got {shown(text)}")
    return False


def parse_start(text: object) -> object:
    """Return ``first``, ``last`` or ``each``."""
    if text not in ("first", "last", "each"):
        raise ValueError(f"expected first, last or each, got {shown(text)}")
    return text


def parse_partners(texts: object) -> frozenset[str]:
    """Return a list of partner ids as a set."""
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise ValueError(f"expected a list of partner ids, got {shown(texts)}")
    if taken := {"retail", "other"}.intersection(texts):
        raise ValueError(f"expected partner ids; {min(taken)} already stands for those that are not named")
    return frozenset(texts)
