"""Which orders are worst off, wherever they wait: those that have used most of the time that they may.

An order that a person put on hold may wait, and is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from otel_orders import names
from otel_orders.ledger.kept import held_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_orders.ledger.store import Store, Waiting
    from otel_orders.lifecycle import Lifecycle, Status

MOST_HELD: Final = 1_000
"""Orders on hold that are passed over in one status, at most."""


class Worst(NamedTuple):
    """One of them.  owner: whose move it is.  since: unix ns.  stuck_after: seconds, None for no limit.

    used: which part of stuck_after has passed, 0 where there is none; above 1 the order is stuck.
    """

    order_id: str
    status: str
    owner: str
    since: int
    stuck_after: float | None
    used: float


def worst(store: Store, lifecycle: Lifecycle, now: int, limit: int) -> list[Worst]:
    """Return the *limit* worst at *now* (unix ns), the worst first; those without a limit come last, oldest first."""
    totals = store.totals()
    found = [
        one
        for status in lifecycle.statuses.values()
        if not status.terminal
        for one in _waiting(store, status, now, limit, totals.get((names.ON_HOLD, status.name), 0))
    ]
    return sorted(found, key=lambda one: (-one.used, one.since, one.order_id))[:limit]


def _waiting(store: Store, status: Status, now: int, limit: int, held: int) -> Iterator[Worst]:
    """Yield those that came first to *status*, of which *held* are on hold: who came later is better off."""
    allowed = status.stuck_after.seconds if status.stuck_after else None
    for one in beside_held(store, status.rank, now, limit, held):
        used = (now - one.since) / 1e9 / allowed if allowed else 0.0
        yield Worst(one.order_id, status.name, status.owner, one.since, allowed, used)


def beside_held(store: Store, stage: int, now: int, limit: int, held: int) -> Iterator[Waiting]:
    """Yield the first orders at rank *stage* that are not on hold at *now* (unix ns), at least *limit* if there are.

    held: how many there are on hold.
    """
    waiting = store.longest_waiting(stage, limit + min(max(held, 0), MOST_HELD))
    return (one for one in waiting if held_until(one.state) <= now)
