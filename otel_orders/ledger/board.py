"""The board: for each status in pipeline order, how many orders wait there, since when, and how many are stuck."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from otel_orders import names

if TYPE_CHECKING:
    from otel_orders.ledger.model import Plan
    from otel_orders.ledger.store import Store


class Stage(msgspec.Struct, frozen=True):
    """One status and its orders.

    orders: waiting now, 0 for a terminal status.  oldest: when the first of them came, unix ns, None for none.
    stuck_after: seconds, None for no limit.  reached: how many orders were ever here.  on_hold: of *orders*, how many a
    person said may wait.
    """

    status: str
    owner: str
    terminal: bool
    orders: int
    oldest: int | None
    stuck: int
    stuck_after: float | None
    reached: int
    on_hold: int = 0


def board(store: Store, plan: Plan) -> list[Stage]:
    """Return the stages in pipeline order."""
    totals = store.totals()
    oldest = store.oldest(len(plan.lifecycle.statuses))
    return [
        Stage(
            status=status.name,
            owner=status.owner,
            terminal=status.terminal,
            orders=totals.get((names.IN_STATUS, status.name), 0),
            oldest=oldest.get(status.rank),
            stuck=totals.get((names.STUCK, status.name), 0),
            stuck_after=status.stuck_after.seconds if status.stuck_after else None,
            reached=totals.get((names.REACHED, status.name), 0),
            on_hold=totals.get((names.ON_HOLD, status.name), 0),
        )
        for status in plan.lifecycle.statuses.values()
    ]
