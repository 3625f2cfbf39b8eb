"""What is remembered of orders that were removed for their age, so that an import does not count them again.

Pure: knows no rows, and of the orders themselves only between when they ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_orders.ledger.kept import Order

KEY: Final = "removed"
"""Key under which the store keeps the text of its Removals."""


class Removals(NamedTuple):
    """Between when the orders ended that were removed: the first of them and the last, unix ns.

    One that ended then, and that the store does not have, may have been counted; any other one was not.
    """

    first: int
    last: int

    @classmethod
    def of(cls, text: str | None) -> Self | None:
        """Return what text() made *text* of, None for None: nothing was removed."""
        return cls(*map(int, text.split(","))) if text else None

    def text(self) -> str:
        """Return it as a store keeps it."""
        return f"{self.first},{self.last}"

    def cover(self, ended_at: int) -> bool:
        """Whether one of them may have ended at *ended_at* (unix ns)."""
        return self.first <= ended_at <= self.last


NOTHING: Final = Removals(0, -1)


def with_more(known: str | None, gone: Iterable[Order]) -> str | None:
    """Return the text of *known* and of the orders *gone*, of which none counts that was never anywhere."""
    ended = [order for order in gone if order.fold.status is not None]
    if not ended:
        return known
    first = min(order.fold.entered_at for order in ended)
    last = max(event.at for order in ended for event in order.events)
    before = Removals.of(known) or Removals(first, last)
    return Removals(min(first, before.first), max(last, before.last)).text()


class Import(NamedTuple):
    """What is to be known of events that no sender sent.

    at: when they are imported, unix ns.  ended: orders that, as their source has it, ended when such did that were
    removed.  until: when the last of these ended, unix ns.
    """

    at: int
    ended: frozenset[str] = frozenset()
    until: int = 0

    def lacks_removed(self, order: Order) -> bool:
        """Whether *order*, one of the ended, has come after what was removed of it."""
        return not any(event.at <= self.until for event in order.events)


SENT: Final = Import(0)
"""What is to be known of events that senders sent: nothing."""
