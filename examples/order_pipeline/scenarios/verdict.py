"""Whether what the ledger says is right: compared with what the scenario knows, because it did it.  Pure."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from otel_orders import names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from examples.order_pipeline.scenarios.reading import Stage, Story

WHOLE_WAY = (
    "INITIATED",
    "FILE_UPLOADED",
    "SUBMITTED",
    "PRICE_CALCULATED",
    "MANUFACTURING_APPROVED",
    "MANUFACTURING_STARTED",
    "MANUFACTURING_COMPLETED",
    "PACKAGING",
    "SHIPPED",
    "CLOSED",
)
UNTRACED = "legacy-mes"
"""The service that cannot speak OpenTelemetry."""
SLOW_FACTOR = 20
"""How many times longer than usual the slow pricing took, at least."""


class Sent(NamedTuple):
    """The orders that were sent, by what must become of them.  finished: all that must be closed, slow included."""

    finished: list[str]
    partner_of: dict[str, str]
    slow: str
    rejected: str
    lost: str

    @property
    def all(self) -> list[str]:
        return [*self.finished, self.rejected, self.lost]


def mistakes(sent: Sent, board: list[Stage], stories: dict[str, Story]) -> Iterator[str]:
    """Yield what is wrong, in words; nothing when everything is right.  stories: of all orders sent."""
    yield from _board_mistakes(sent, board)
    for order_id in sent.finished:
        yield from _finished_mistakes(stories[order_id], sent.partner_of.get(order_id))
    yield from _lost_mistakes(stories[sent.lost])
    yield from _rejected_mistakes(stories[sent.rejected])
    yield from _slow_mistakes(sent, stories)


def pricing_seconds(told: Story) -> float:
    """Return how long the model of an order was measured."""
    return sum(move.took for move in told.entered if move.to_status == "PRICE_CALCULATED")


def _board_mistakes(sent: Sent, board: list[Stage]) -> Iterator[str]:
    expected = {"SUBMITTED": 1, "PRICE_REJECTED": 1, "CLOSED": len(sent.finished)}
    for stage in board:
        orders = stage.entered if stage.terminal else stage.orders
        if orders != expected.get(stage.status, 0):
            yield f"{stage.status}: {orders} orders, expected {expected.get(stage.status, 0)}"
        if stage.stuck != (stage.status == "SUBMITTED"):
            yield f"{stage.status}: {stage.stuck} orders are stuck"
    total = sum(stage.entered if stage.terminal else stage.orders for stage in board)
    if total != len(sent.all):
        yield f"{total} orders are accounted for, {len(sent.all)} were sent"


def _finished_mistakes(told: Story, partner_id: str | None) -> Iterator[str]:
    way = tuple(move.to_status for move in told.entered)
    if way != WHOLE_WAY or told.status != "CLOSED" or told.stuck:
        yield f"{told.order_id}: is in {told.status} after {' '.join(way)}"
    if told.partner_id != partner_id:
        yield f"{told.order_id}: belongs to {told.partner_id}, expected {partner_id}"
    yield from _untraced(told)


def _lost_mistakes(told: Story) -> Iterator[str]:
    if told.status != "SUBMITTED" or not told.stuck:
        yield f"{told.order_id}: is in {told.status}, stuck: {told.stuck}; expected it stuck in SUBMITTED"
    if told.stage != "flowing":  # it is this order alone: others have come after it, and left
        yield f"{told.order_id}: its stage is {told.stage}: {told.evidence}; expected it flowing"
    if " holds " in told.evidence:  # the broker's numbers are some seconds old
        yield f"{told.order_id}: its stage tells of messages that are not there: {told.evidence}"
    yield from _untraced(told)


def _rejected_mistakes(told: Story) -> Iterator[str]:
    codes = [move.error_code for move in told.moves if move.event_type == names.TRANSITION_FAILED]
    if told.status != "PRICE_REJECTED" or codes != ["not_watertight"]:
        yield f"{told.order_id}: is in {told.status} because of {codes}; expected it rejected as not_watertight"
    yield from _untraced(told)


def _slow_mistakes(sent: Sent, stories: dict[str, Story]) -> Iterator[str]:
    usual = median(pricing_seconds(stories[order_id]) for order_id in sent.finished)
    slow = pricing_seconds(stories[sent.slow])
    if slow < SLOW_FACTOR * usual:
        yield f"{sent.slow}: took {slow:.3f} s to price, the others {usual:.3f} s"


def _untraced(told: Story) -> Iterator[str]:
    for move in told.entered:
        if bool(move.trace_id) == (move.service == UNTRACED):
            yield f"{told.order_id}: {move.to_status} by {move.service} has trace {move.trace_id or 'none'}"
