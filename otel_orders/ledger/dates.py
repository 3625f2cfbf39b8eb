"""How people write moments: a date, a moment with its offset, or a time from now.  Pure."""

from __future__ import annotations

from datetime import date, datetime
from typing import Final

from otel_orders.notation import parse_duration

FORMS: Final = "2026-12-24, 2026-12-24T10:00+01:00 or 3d"


def moment(text: str, now: int, direction: int) -> int:
    """Return the moment that *text* names (unix ns).

    A date is its first moment, local time.  A time counts from *now* (unix ns), ahead for a *direction* of 1, back for
    -1.  Raises ValueError with what was expected.
    """
    try:
        return now + direction * parse_duration(text)
    except ValueError:
        pass
    try:
        at = datetime.combine(date.fromisoformat(text), datetime.min.time()).astimezone()
    except ValueError:
        at = _with_offset(text)
    return int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1_000


def _with_offset(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"expected {FORMS}, got {text[:60]!r}") from None
    if at.tzinfo is None:
        raise ValueError(f"{text} has no offset from UTC; expected {FORMS}")
    return at
