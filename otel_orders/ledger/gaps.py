"""Which ids of a growing table were read, where transactions may commit in another order than they took their ids.

A missing id may still come, or never (its transaction was rolled back).  It is given up once every transaction has
ended that can have taken it.  Pure: knows no database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

GRACE: Final = 10.0
"""Seconds until a transaction that took an id surely has a number of its own: that usually follows at once."""


class Snapshot(NamedTuple):
    """Which transactions a look at the table saw.

    oldest: the lowest number of those that were running; next: the first number that none had yet.
    """

    oldest: int
    next: int


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """Ids that were missing, from *first* to *last*.

    since: when that was noticed, monotonic seconds.  until: the number of the first transaction that is too late to
    fill it, None while that is not known.
    """

    first: int
    last: int
    since: float = 0.0
    until: int | None = None


class Reached(msgspec.Struct, frozen=True):
    """How far a table was read: all ids up to *last*, but those in *gaps*, which are in order."""

    last: int = 0
    gaps: tuple[Gap, ...] = ()


def furthest(ours: Reached, kept: Reached, now: float) -> Reached:
    """Return *ours*, or *kept* where that is further: what we kept before a restart, or another follower has kept.

    Of its clock we know nothing, so gaps that are new to us are noticed *now* (monotonic seconds).
    """
    if kept.last <= ours.last:
        return ours
    known = {(gap.first, gap.last): gap for gap in ours.gaps}
    gaps = (known.get((gap.first, gap.last), Gap(gap.first, gap.last, now)) for gap in kept.gaps)
    return Reached(kept.last, tuple(gaps))


def after(reached: Reached, late: Sequence[int], new: Sequence[int], snapshot: Snapshot, now: float) -> Reached:
    """Return how far the table is read after one look at it, *snapshot*, found *late* and *new* ids, sorted.

    late: all that were in the gaps.  new: the next ones after the last, not necessarily all.  now: monotonic seconds.
    """
    gaps = [gap for gap in _without(reached.gaps, late) if gap.until is None or snapshot.oldest < gap.until]
    waiting = [_dated(gap, snapshot, now) for gap in gaps]
    last = reached.last
    for found in new:
        if found > last + 1:
            waiting.append(Gap(last + 1, found - 1, now))
        last = found
    return Reached(last, tuple(waiting))


def _dated(gap: Gap, snapshot: Snapshot, now: float) -> Gap:
    due = gap.until is None and now - gap.since >= GRACE
    return msgspec.structs.replace(gap, until=snapshot.next) if due else gap


def _without(gaps: Iterable[Gap], found: Sequence[int]) -> Iterator[Gap]:
    """Yield what is left of *gaps* without the ids *found*."""
    ids = iter(found)
    come = next(ids, None)
    for gap in gaps:
        first = gap.first
        while come is not None and come <= gap.last:
            if first < come:
                yield msgspec.structs.replace(gap, first=first, last=come - 1)
            first = come + 1
            come = next(ids, None)
        if first <= gap.last:
            yield msgspec.structs.replace(gap, first=first)
