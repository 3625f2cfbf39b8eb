"""What a batch tells beside its orders: which stages were left, which messages came and went, who is alive.

Pure: it only collects what a transaction is to note.  Clocks of services differ, and a silence is measured on ours:
what is heard of within minutes of its time counts as happening when it is heard of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_orders import names
from otel_orders.ledger.apply import DUPLICATE, FULL
from otel_orders.ledger.kept import CHANGED, MESSAGE, OBSERVED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_orders.ledger.kept import Kept
    from otel_orders.ledger.model import Plan
    from otel_orders.ledger.totals import Series

    Entry = tuple[str | None, int]
    """A status, and when it was entered, unix ns."""

SECOND: Final = 1_000_000_000
BELIEVED: Final = 600 * SECOND
"""How far the time of an event may be from ours before it is believed."""

LEFT: Final = "stage_left"
"""The moment kept for each status: when an order last left it."""
PASSED: Final = "stage_passed"
"""The moment kept for each status: when the youngest of the orders that have left it came.  Who came before it, and
still waits, was overtaken."""
BEAT: Final = "service_beat"
"""The moment kept for each service and role: when its last heartbeat was heard."""
DELIVERED: Final = "queue_delivered"
"""The moment kept for each queue: when the message that was delivered last was published."""

NOT_TAKEN: Final = frozenset({"returned", "nacked", "error"})
"""Outcomes of a publishing after which the broker does not have the message, or may not have it."""
STAYS: Final = frozenset({"requeue", "unsettled"})
"""Outcomes of a settling after which a message is still in its queue."""


class Passing:
    """Collects what one batch tells.

    now: unix ns.  moments: to be advanced.  published, settled: (queue, message_id, order_id, unix ns) of the messages
    in tracked queues.
    """

    def __init__(self, plan: Plan, now: int) -> None:
        self._known = plan.stuck_after  # by status
        self._tracked = frozenset(queue.name for queue in plan.lifecycle.queues.values() if queue.track)
        self._now = now
        self.moments: dict[Series, int] = {}
        self.published: list[tuple[str, str, str, int]] = []
        self.settled: list[tuple[str, str, str, int]] = []

    def took(self, order_id: str, before: Entry, events: Sequence[Kept], results: Sequence[str]) -> None:
        """Note what *events* of an order tell, which were taken with *results*.  before: where the order was."""
        status, entered_at = before
        for event, result in zip(events, results, strict=True):
            if result == DUPLICATE:
                continue
            if event.kind == MESSAGE:  # also where the order has no place for it: it left its queue all the same
                self._message(order_id, event)
            elif result != FULL and event.kind in (CHANGED, OBSERVED):
                left = status if event.left is None else event.left
                if left is not None and left != event.to and left in self._known:
                    self._advance((LEFT, left), self._heard(event.at))
                    if left == status:
                        self._advance((PASSED, left), entered_at)
                status, entered_at = event.to, event.at

    def alive(self, service: str, role: str, at: int) -> None:
        """Note a heartbeat of *at* (unix ns)."""
        self._advance((BEAT, service, role), self._heard(at))

    def _message(self, order_id: str, event: Kept) -> None:
        told = event.attributes or {}
        queue, message_id = told.get(names.QUEUE), told.get(names.MESSAGE_ID)
        if queue not in self._tracked:
            return
        note = (str(queue), str(message_id), order_id, event.at)
        if told.get(names.EVENT_TYPE) == names.MESSAGE_PUBLISHED:
            if message_id and event.to not in NOT_TAKEN:
                self.published.append(note)
        elif event.to not in STAYS:
            if message_id:
                self.settled.append(note)
            published_at = told.get(names.PUBLISHED_AT)
            if isinstance(published_at, int) and 0 < published_at <= event.at + BELIEVED:
                self._advance((DELIVERED, str(queue)), published_at)

    def _heard(self, at: int) -> int:
        return self._now if self._now - at < BELIEVED else at

    def _advance(self, series: Series, at: int) -> None:
        if at > self.moments.get(series, 0):
            self.moments[series] = at
