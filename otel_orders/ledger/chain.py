"""Put an order's status events into the one order that they happened in.  Pure: a function of the set of events.

The rule, which everything else rests on:

1. Events with an order_version follow their versions.  Each counts as happening no earlier than the versions before it.
2. All others stand by occurred_at; ties go to events with a version, then by rank in the lifecycle, then by event id.
3. Clocks of services differ, and a message sent before its transaction ends is answered before that end.  So an event
   that does not leave the status that the order is in waits for those that lead there: if events within ``MAX_SKEW``
   after it form a way to the status that it leaves, the first step of the shortest way comes next.  If none do, it
   comes, and leaves a gap: time alone decides where the chain proves nothing.  An event that does not say what it
   leaves may leave any status from which the lifecycle leads to its own.  Versions are never overtaken by versions.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_orders.ledger.kept import Kept

MAX_SKEW = 10_000_000_000
"""How far clocks of services may differ, in ns."""
MAX_AHEAD = 16
"""How many events may come between two that clocks have swapped, so that one order's flood costs little."""


class Rules(Protocol):
    """What is asked of a lifecycle."""

    def rank(self, status: str) -> int:
        """Return the place of *status* in the pipeline."""
        ...

    def follows(self, status: str | None, to_status: str) -> bool:
        """Whether an event that only names *to_status* can be the next of an order in *status*."""
        ...


Timed = tuple[tuple[int, int, int, int, bytes], "Kept"]


def by_time(events: Iterable[Kept], rules: Rules) -> list[Timed]:
    """Return *events* with their sort keys, sorted: rules 1 and 2.  A key's first member is the time it counts as."""
    versioned: list[Kept] = []
    plain: list[Kept] = []
    for event in events:
        (plain if event.version is None else versioned).append(event)
    versioned.sort(key=lambda event: (event.version or 0, event.at, event.id))
    timed: list[Timed] = [((event.at, 1, 0, rules.rank(event.to), event.id), event) for event in plain]
    latest = 0
    for place, event in enumerate(versioned):
        latest = max(latest, event.at)
        timed.append(((latest, 0, place, 0, event.id), event))
    timed.sort(key=lambda pair: pair[0])
    return timed


def chained(events: Iterable[Kept], rules: Rules) -> list[tuple[Kept, int, bool]]:
    """Return *events* in the order they happened in, each with the time it counts as (ns) and whether it chained."""
    left = by_time(events, rules)
    done: list[tuple[Kept, int, bool]] = []
    status: str | None = None
    while left:
        (counts_as, *_), event = left.pop(_next(left, status, rules))
        done.append((event, counts_as, chains(event, status, rules)))
        status = event.to
    return done


def chains(event: Kept, status: str | None, rules: Rules) -> bool:
    """Whether *event* leaves *status*, or may, where it does not say what it leaves."""
    return rules.follows(status, event.to) if event.left is None else event.left == status


def _next(left: list[Timed], status: str | None, rules: Rules) -> int:
    """Return the place in *left* of what happens next to an order in *status*: rule 3."""
    first = left[0][1]
    if chains(first, status, rules):
        return 0
    limit = left[0][0][0] + MAX_SKEW
    window = [event for key, event in left[1 : 1 + MAX_AHEAD] if key[0] <= limit]
    if not any(chains(first, event.to, rules) for event in window):
        return 0
    return _way(window, status, first, rules)


def _way(window: list[Kept], status: str | None, first: Kept, rules: Rules) -> int:
    """Return which of *window*, from 1, is the first step of the shortest way from *status* to what *first* leaves.

    0 for none.  A way takes events with a version in turn, and none where *first* has one itself.
    """
    versions = first.version is None
    turns = [event for event in window if event.version is not None]
    ways: deque[tuple[str | None, int, int]] = deque([(status, 0, 0)])
    been = {(status, 0)}
    while ways:
        reached, taken, step = ways.popleft()
        for place, event in enumerate(window, 1):
            versioned = event.version is not None
            in_turn = not versioned or (versions and taken < len(turns) and event is turns[taken])
            # A history that we only see the end of starts with any event; it is no reason to overtake another such one.
            starts = reached is None and event.left is None and first.left is not None
            if not (in_turn and (starts or chains(event, reached, rules))):
                continue
            if chains(first, event.to, rules):
                return step or place
            ahead = (event.to, taken + versioned)
            if ahead not in been:
                been.add(ahead)
                ways.append((*ahead, step or place))
    return 0
