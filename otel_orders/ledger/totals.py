"""What a batch changes in the totals, and how facts become series.  Pure.

A series is a tuple: the metric's name, its label values and, for a histogram, ``sum`` (ms) or the upper edge of a
bucket (ms).  All values are whole numbers, so that any order of adding them gives the same sum.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

from otel_orders import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_orders.ledger.kept import Fact
    from otel_orders.lifecycle import Lifecycle

Series = tuple[str | int, ...]

CODES: Final = "error_code:"
"""Prefix of the keys under which a store keeps the error codes that are labels."""
MAX_CODES: Final = 50
CODE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
OTHER: Final = "other"

HISTOGRAMS: Final = frozenset({names.TIME_IN_STATUS, names.MILESTONE})
SUM: Final = "sum"
CARRIED: Final = "carried"
"""First member of series that say what was counted for orders that are no longer there, or under another lifecycle.

What all orders prove by their events, and what is carried, is what the counters say: the check holds them to that.
"""
KEPT_EVENTS: Final = (names.LEDGER_EVENTS, "kept")
"""How many events were kept, under CARRIED of those that are no longer there."""
INFINITE: Final = -1
"""Edge of the last bucket."""

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
EDGES: Final = (
    *(1_000, 5_000, 15_000, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 4 * HOUR, 12 * HOUR),
    *(DAY, 3 * DAY, 7 * DAY, 14 * DAY, 21 * DAY, 30 * DAY, 60 * DAY, 90 * DAY),
)


def edges(lifecycle: Lifecycle) -> tuple[int, ...]:
    """Return the upper edges of histogram buckets in ms: the usual ones, and one exactly at each limit."""
    limits = [int(sla.within) for sla in lifecycle.slas.values()]
    limits += [int(status.stuck_after) for status in lifecycle.statuses.values() if status.stuck_after]
    return tuple(sorted({*EDGES, *(limit // 1_000_000 for limit in limits)}))


class Delta:
    """Changes of the totals over a batch: noted for each order, added up once."""

    def __init__(self, edges: tuple[int, ...]) -> None:
        self._edges = edges
        self._changes: Counter[Series] = Counter()
        self._counted: list[Fact] = []
        self._carried: list[Fact] = []
        self._before: list[Fact] = []
        self._after: list[Fact] = []

    def add(self, series: Series, by: int) -> None:
        """Change *series* by *by*."""
        self._changes[series] += by

    def count(self, facts: Iterable[Fact]) -> None:
        """Count each of *facts* once."""
        self._counted.extend(facts)

    def carry(self, facts: Iterable[Fact], events: int) -> None:
        """Note that *facts* were counted, and *events* events kept, that no order can prove any more."""
        self._carried.extend(facts)
        self._changes[CARRIED, *KEPT_EVENTS] += events

    def become(self, before: set[Fact], after: set[Fact]) -> None:
        """Move an order from one standing to the other."""
        if before != after:
            self._before.extend(before)
            self._after.extend(after)

    def changes(self) -> dict[Series, int]:
        """Return by how much each series changes; none that does not."""
        total = self._changes.copy()
        total.update(self._series(self._counted))
        if self._carried:
            total.update({(CARRIED, *series): by for series, by in self._series(self._carried).items()})
        total.update(self._after)
        total.subtract(self._before)
        return {series: by for series, by in total.items() if by}

    def _series(self, facts: list[Fact]) -> Counter[Series]:
        total: Counter[Series] = Counter()
        values: dict[Series, list[int]] = defaultdict(list)
        for fact, times in Counter(facts).items():
            if fact[0] in HISTOGRAMS:
                values[fact[:-1]] += [int(fact[-1])] * times
            else:
                total[fact] += times
        for series, observed in values.items():
            total[*series, SUM] += sum(observed)
            total.update((*series, edge) for edge in map(self._edge, observed))
        return total

    def _edge(self, value: int) -> int:
        place = bisect_left(self._edges, value)
        return self._edges[place] if place < len(self._edges) else INFINITE


class ErrorCodes:
    """The error codes that are labels: the first that a store saw.  items: the store's own.

    A sender makes codes up, so that they are bounded in number and in form; all others are OTHER together.
    """

    def __init__(self, items: Callable[[str], dict[str, str]]) -> None:
        self._items = items
        self._known: frozenset[str] = frozenset()

    def bounded(self, changes: dict[Series, int], put: Callable[[str, str], None] | None = None) -> dict[Series, int]:
        """Return *changes* with bounded codes.  put: keeps a new one, where there is room; without it, none is new."""
        codes = {str(series[-1]) for series in changes if names.FAILED_TRANSITIONS in series[:2]}
        if not codes:
            return changes
        known = self._with_new(codes, put)
        bounded: Counter[Series] = Counter()
        for series, by in changes.items():
            other = names.FAILED_TRANSITIONS in series[:2] and series[-1] not in known
            bounded[(*series[:-1], OTHER) if other else series] += by
        return dict(bounded)

    def _with_new(self, codes: set[str], put: Callable[[str, str], None] | None) -> frozenset[str]:
        """Return the codes that are labels now; the store is only asked about codes that were not seen before."""
        if codes <= self._known or len(self._known) >= MAX_CODES:
            return self._known
        self._known = frozenset(key.removeprefix(CODES) for key in self._items(CODES))
        room = MAX_CODES - len(self._known)
        if put is None:
            return self._known
        new = sorted(code for code in codes - self._known if CODE.fullmatch(code))[:room]
        for code in new:
            put(CODES + code, "")
        return self._known.union(new)
