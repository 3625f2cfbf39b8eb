"""How fast a promise's budget of breaches may burn before somebody is called.  Pure.

Multi-window: the long window says that it matters, the short one that it goes on.  The usual multipliers, 14.4 and 6,
are for objectives near 1: of an objective of 0.9 no more than 10 times the budget can ever burn.  So a share between
the budget and all is the most that is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from otel_orders.lifecycle import Sla
    from otel_orders.notation import Duration

FEWEST: Final = 3
"""Breaches in the long window, at least: one order is a matter of OrderStuck, not of a rate."""

SHARED: Final = "6h"
"""A window in which every promise is looked at, short or long."""

_HOUR: Final = 3_600.0
_FAST, _SLOW = (14.4, 0.8), (6.0, 0.5)
"""The usual multiplier, and the part of the way from the budget to all that is asked for at most."""


class Burn(NamedTuple):
    """share: of the promises that were settled in each window, how many must be broken.  multiplier: of the budget."""

    long: str
    short: str
    share: float
    multiplier: float


def fast(sla: Sla) -> Burn:
    """Return what calls somebody at once."""
    return Burn(*(("1h", "5m") if _is_short(sla.within) else (SHARED, "30m")), *_asked(sla, *_FAST))


def slow(sla: Sla) -> Burn:
    """Return what can wait until the morning."""
    return Burn(*((SHARED, "30m") if _is_short(sla.within) else ("3d", SHARED)), *_asked(sla, *_SLOW))


def windows(sla: Sla) -> tuple[str, ...]:
    """Return all windows in which the promise is looked at."""
    return tuple(dict.fromkeys((fast(sla).short, fast(sla).long, slow(sla).short, slow(sla).long)))


def _asked(sla: Sla, multiplier: float, part: float) -> tuple[float, float]:
    budget = 1 - sla.objective
    share = min(multiplier * budget, budget + part * sla.objective)
    return float(f"{share:.4g}"), round(share / budget, 1)


def _is_short(within: Duration) -> bool:
    return within.seconds <= _HOUR
