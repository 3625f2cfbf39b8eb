"""What the ledger says, for whoever draws or checks it: the board from its metrics, a story from its API.

Asks the ledger and nobody else: what is shown is what support and alerts would see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families

from otel_orders import names

if TYPE_CHECKING:
    from otel_orders.lifecycle import Lifecycle


NOWHERE = "nowhere"
"""The status of an order of which the ledger has not heard."""


class Stage(NamedTuple):
    """One status and the orders in it.  oldest: when the first of them entered, unix seconds, None for none.

    stuck_after: seconds.  entered: how many orders have ever been here.
    """

    status: str
    owner: str
    terminal: bool
    orders: int
    stuck: int
    entered: int
    oldest: float | None
    stuck_after: float | None


class Move(NamedTuple):
    """One event of a story.  at: unix seconds; took: seconds of work."""

    at: float
    event_type: str
    to_status: str
    service: str
    trace_id: str
    took: float
    error_code: str | None


class Story(NamedTuple):
    """One order, as GET /orders/{order_id} tells it.

    stage: how the stage does in which it waits, empty where it waits in none.  evidence: why, in words.
    """

    order_id: str
    partner_id: str | None
    status: str
    stuck: bool
    moves: list[Move]
    stage: str = ""
    evidence: str = ""

    @property
    def entered(self) -> list[Move]:
        """The moves that led into a status."""
        return [move for move in self.moves if move.event_type == names.STATUS_CHANGED]


def board(ledger: httpx.Client, lifecycle: Lifecycle) -> list[Stage]:
    """Return the stages in pipeline order, from the ledger's metrics."""
    page = ledger.get("/metrics").raise_for_status().text
    values = {
        (sample.name, sample.labels.get("status", "")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    return [
        Stage(
            status=status.name,
            owner=status.owner,
            terminal=status.terminal,
            orders=int(values.get((names.IN_STATUS, status.name), 0)),
            stuck=int(values.get((names.STUCK, status.name), 0)),
            entered=int(values.get((names.REACHED, status.name), 0)),
            oldest=values.get((names.OLDEST_ENTERED, status.name)),
            stuck_after=values.get((names.STUCK_AFTER, status.name)),
        )
        for status in lifecycle.statuses.values()
    ]


def story(ledger: httpx.Client, order_id: str) -> Story:
    """Return the story of one order; an empty one where the ledger has not heard of it yet."""
    answer = ledger.get(f"/orders/{order_id}")
    if answer.status_code == httpx.codes.NOT_FOUND:
        return Story(order_id, None, NOWHERE, stuck=False, moves=[])
    told: dict[str, Any] = answer.raise_for_status().json()
    moves = [_move(event) for event in told["events"] if names.TO_STATUS in event]
    stage = told["stage"] or {}
    return Story(
        order_id,
        told.get(names.PARTNER_ID),
        told[names.STATUS] or NOWHERE,
        stuck=told["stuck"],
        moves=moves,
        stage=stage.get("state", ""),
        evidence=stage.get("evidence", ""),
    )


def _move(event: dict[str, Any]) -> Move:
    return Move(
        at=event[names.OCCURRED_AT] / 1e9,
        event_type=event[names.EVENT_TYPE],
        to_status=event[names.TO_STATUS],
        service=event[names.SERVICE],
        trace_id=event.get(names.TRACE_ID, ""),
        took=event.get(names.DURATION, 0) / 1e9,
        error_code=event.get(names.ERROR_CODE),
    )
