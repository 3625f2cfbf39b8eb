"""Read times as other systems write them.  Pure: knows no file and no order.

A time that does not say how far it is from UTC is an error, unless somebody says in which zone it was written: an hour
too much would break promises that were kept.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from otel_orders.errors import ConfigurationError, EventError

SECOND: Final = 1_000_000_000
OLDEST: Final = 946_684_800 * SECOND
NEWEST: Final = 4_102_444_800 * SECOND
"""2000-01-01 and 2100-01-01: a number that means less or more is no time, but 202611211030 or the like."""
NO_ZONE: Final = "no_zone"
"""Why a time is refused that names no zone where none is known."""
DATE: Final = len("20261121")
_UNITS: Final = ((10**11, SECOND), (10**14, SECOND // 1000), (10**17, 1000), (2**63, 1))
"""Largest plain number, and how many ns it counts: a number of this century tells its own unit."""


class Moments(msgspec.Struct, frozen=True):
    """How times are written.  zone: of those that name none.  pattern: of strptime(), None for ISO 8601 and numbers."""

    zone: ZoneInfo | None = None
    pattern: str | None = None

    def read(self, written: object) -> int:
        """Return *written* (a text, a number since 1970 in s, ms, us or ns, or a datetime) as unix ns.

        Raises EventError where it is none of these, or names no zone and none is known.
        """
        moment = written if isinstance(written, datetime) else self._parsed(written)
        if isinstance(moment, int):
            return moment
        if moment.tzinfo is None:
            if self.zone is None:
                raise EventError(NO_ZONE, "it has no offset from UTC; say its zone")
            moment = moment.replace(tzinfo=self.zone)
        return int(moment.replace(microsecond=0).timestamp()) * SECOND + moment.microsecond * 1000

    def _parsed(self, written: object) -> datetime | int:
        text = str(written).strip() if isinstance(written, (str, int)) and not isinstance(written, bool) else ""
        try:
            if self.pattern is not None:
                return datetime.strptime(text, self.pattern)  # noqa: DTZ007 - its zone is looked at next
            if text.isascii() and text.isdecimal() and len(text) > DATE:
                return _since_1970(int(text))
            return datetime.fromisoformat(text)
        except (ValueError, OverflowError):
            raise EventError("bad_time", "it is no time that we know") from None


def zone(name: str | None) -> ZoneInfo | None:
    """Return the zone of that name.  Raises ConfigurationError where there is none."""
    try:
        return None if name is None else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ConfigurationError(f"--zone {name!r}: expected the name of a zone, such as Europe/Berlin") from None


def _since_1970(number: int) -> int:
    for largest, unit in _UNITS:
        if number < largest and OLDEST <= number * unit < NEWEST:
            return number * unit
    raise ValueError(number)
