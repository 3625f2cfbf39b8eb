"""Put an order's status events into the one order that they happened in.  Pure: a function of the set of events.

The rule, which everything else rests on:

1. Events with an order_version follow their versions.  Each counts as happening no earlier than the versions before it.
2. All others stand by occurred_at; ties go to events with a version, then by rank in the lifecycle, then by event id.
3. Clocks of services differ.  So among the events within ``MAX_SKEW`` of the earliest one left, the first that chains
   (its from_status is the status that the order is in) comes next; if none does, the earliest comes, and leaves a gap.
   Versions are never overtaken by chains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_orders.ledger.kept import Kept

MAX_SKEW = 10_000_000_000
"""How far clocks of services may differ, in ns."""

Timed = tuple[tuple[int, int, int, int, bytes], "Kept"]


def by_time(events: Iterable[Kept], rank: Callable[[str], int]) -> list[Timed]:
    """Return *events* with their sort keys, sorted: rules 1 and 2.  A key's first member is the time it counts as."""
    versioned: list[Kept] = []
    plain: list[Kept] = []
    for event in events:
        (plain if event.version is None else versioned).append(event)
    versioned.sort(key=lambda event: (event.version or 0, event.at, event.id))
    timed: list[Timed] = [((event.at, 1, 0, rank(event.to), event.id), event) for event in plain]
    latest = 0
    for place, event in enumerate(versioned):
        latest = max(latest, event.at)
        timed.append(((latest, 0, place, 0, event.id), event))
    timed.sort(key=lambda pair: pair[0])
    return timed


def chained(events: Iterable[Kept], rank: Callable[[str], int]) -> list[tuple[Kept, int, bool]]:
    """Return *events* in the order they happened in, each with the time it counts as (ns) and whether it chained."""
    left = by_time(events, rank)
    done: list[tuple[Kept, int, bool]] = []
    status: str | None = None
    while left:
        place = _next(left, status)
        chains = place is not None
        (counts_as, *_), event = left.pop(place or 0)
        done.append((event, counts_as, chains))
        status = event.to
    return done


def chains(event: Kept, status: str | None) -> bool:
    """Whether *event* leaves *status*; one that does not say what it leaves fits any."""
    return event.left is None or event.left == status


def _next(left: list[Timed], status: str | None) -> int | None:
    """Return the place in *left* of the first event in the window that chains, or None (rule 3)."""
    limit = left[0][0][0] + MAX_SKEW
    version_seen = False
    for place, ((counts_as, *_), event) in enumerate(left):
        if counts_as > limit:
            return None
        versioned = event.version is not None
        if chains(event, status) and not (versioned and version_seen):
            return place
        version_seen = version_seen or versioned
    return None
