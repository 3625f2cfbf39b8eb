"""What a batch changes in the totals, and how facts become series.  Pure.

A series is a tuple: the metric's name, its label values and, for a histogram, ``sum`` (ms) or the upper edge of a
bucket (ms).  All values are whole numbers, so that any order of adding them gives the same sum.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

from otel_orders import names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_orders.ledger.kept import Fact
    from otel_orders.lifecycle import Lifecycle

Series = tuple[str | int, ...]

HISTOGRAMS: Final = frozenset({names.TIME_IN_STATUS, names.MILESTONE})
SUM: Final = "sum"
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
        self._before: list[Fact] = []
        self._after: list[Fact] = []

    def add(self, series: Series, by: int) -> None:
        """Change *series* by *by*."""
        self._changes[series] += by

    def count(self, facts: Iterable[Fact]) -> None:
        """Count each of *facts* once."""
        self._counted.extend(facts)

    def become(self, before: set[Fact], after: set[Fact]) -> None:
        """Move an order from one standing to the other."""
        if before != after:
            self._before.extend(before)
            self._after.extend(after)

    def changes(self) -> dict[Series, int]:
        """Return by how much each series changes; none that does not."""
        total = self._changes.copy()
        values: dict[Series, list[int]] = defaultdict(list)
        for fact, times in Counter(self._counted).items():
            if fact[0] in HISTOGRAMS:
                values[fact[:-1]] += [int(fact[-1])] * times
            else:
                total[fact] += times
        for series, observed in values.items():
            total[*series, SUM] += sum(observed)
            total.update((*series, edge) for edge in map(self._edge, observed))
        total.update(self._after)
        total.subtract(self._before)
        return {series: by for series, by in total.items() if by}

    def _edge(self, value: int) -> int:
        place = bisect_left(self._edges, value)
        return self._edges[place] if place < len(self._edges) else INFINITE
