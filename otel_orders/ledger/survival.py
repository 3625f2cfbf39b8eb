"""How long something takes, when some of it is not over yet: the Kaplan-Meier estimate.  Pure.

An average over what has finished hides what is stuck: the longest waits are the ones that are not over.  Kaplan and
Meier ("Nonparametric Estimation from Incomplete Observations", 1958) count what still waits for as long as it is known
to have lasted: S(t), the share that lasts longer than t, falls at each end by the share of those waiting that ended.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROUNDING: Final = 1e-9
"""What a product of many shares may be off by."""


class Estimate(NamedTuple):
    """How long something takes, in the unit of what it was made of.

    finished, waiting: how many are over and are not.  average: None without any; where ``at_least``, those that last
    longest are not over, so that the true one is higher.  p50, p95: the time after which half, and 95 %, are over; None
    where that many are not over even after the longest time that was seen.
    """

    finished: int
    waiting: int
    average: float | None
    at_least: bool
    p50: int | None
    p95: int | None


def estimate(finished: Iterable[int], waiting: Iterable[int]) -> Estimate:
    """Return the estimate from how long those that are over took, and how long the others last by now."""
    ended, lasting = Counter(finished), Counter(waiting)
    quantiles: dict[float, int] = {}
    area, before, share = 0.0, 0, 1.0
    for time, lasts_longer in curve(ended, lasting):
        area += share * (time - before)
        before, share = time, lasts_longer
        for left in (0.5, 0.05):
            if share <= left + ROUNDING:
                quantiles.setdefault(left, time)
    longest = max([*ended, *lasting], default=0)
    area += share * (longest - before)
    over = share <= ROUNDING
    return Estimate(
        ended.total(),
        lasting.total(),
        area if ended or lasting else None,
        bool(lasting) and not over,
        quantiles.get(0.5),
        quantiles.get(0.05),
    )


def curve(ended: Counter[int], lasting: Counter[int]) -> Iterator[tuple[int, float]]:
    """Yield (t, S(t)) for each time at which something ended, in order.

    ended, lasting: how many took, and last by now, each time.  What lasts exactly t was still waiting at t.
    """
    at_risk, share = ended.total() + lasting.total(), 1.0
    for time in sorted({*ended, *lasting}):
        if ended[time]:
            share *= 1 - ended[time] / at_risk
            yield time, share
        at_risk -= ended[time] + lasting[time]
