"""What is remembered of orders that were removed for their age, so that an import does not count them again.

Pure: knows no rows, and of the orders themselves only between when they were heard of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_orders.ledger.kept import Order

KEY: Final = "removed"
"""Key under which the store keeps the text of its Removals."""


class Removals(NamedTuple):
    """Between when something happened to orders that were removed: first and last, unix ns.

    What happened then to an order that the store does not have may have been counted; nothing else was.
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

    def cover(self, at: int) -> bool:
        """Whether something may have happened to one of them at *at* (unix ns)."""
        return self.first <= at <= self.last


NOTHING: Final = Removals(0, -1)


def with_more(known: str | None, gone: Iterable[Order]) -> str | None:
    """Return the text of *known* and of the orders *gone*, of which none counts that was never anywhere."""
    ended = [order for order in gone if order.fold.status is not None]
    if not ended:
        return known
    times = [event.at for order in ended for event in order.events]
    first, last = min(times), max(times)
    before = Removals.of(known) or Removals(first, last)
    return Removals(min(first, before.first), max(last, before.last)).text()


class Import(NamedTuple):
    """What is to be known of events that no sender sent.

    at: when they are imported, unix ns.  ended: orders that may be among those that were removed, as their
    source has them.  until: when the last thing happened to these, unix ns.
    """

    at: int
    ended: frozenset[str] = frozenset()
    until: int = 0

    def lacks_removed(self, order: Order) -> bool:
        """Whether *order*, one of the ended, has come after what was removed of it."""
        return not any(event.at <= self.until for event in order.events)


SENT: Final = Import(0)
"""What is to be known of events that senders sent: nothing."""
