"""The messages of a channel that wait to be settled, and how they are settled.

Knows no client: AMQP counts deliveries on each channel, and an acknowledgement may be for all up to its tag.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ACK: Final = "ack"
NACK: Final = "nack"
REJECT: Final = "reject"
REQUEUE: Final = "requeue"
NO_ACK: Final = "no-ack"
UNSETTLED: Final = "unsettled"
"""Never settled: the channel closed before, and the broker delivers the message again."""

MAX_WAITING: Final = 10_000
"""Most messages of one channel whose settling is waited for."""

SPARE_TAGS: Final = 100
"""Tags more than twice as many as those that wait, before they are put in order."""


class Settlement(NamedTuple):
    """delivery_tag: 0 means all, where multiple is set.  multiple: whether all up to the tag are meant."""

    outcome: str
    delivery_tag: int
    multiple: bool = False


def acked(delivery_tag: int = 0, multiple: bool = False, *_: Any, **__: Any) -> Settlement:
    """Read the arguments of a client's basic_ack."""
    return Settlement(ACK, delivery_tag, multiple)


def nacked(delivery_tag: int = 0, multiple: bool = False, requeue: bool = True, *_: Any, **__: Any) -> Settlement:
    """Read the arguments of a client's basic_nack."""
    return Settlement(REQUEUE if requeue else NACK, delivery_tag, multiple)


def rejected(delivery_tag: int = 0, requeue: bool = True, *_: Any, **__: Any) -> Settlement:
    """Read the arguments of a client's basic_reject."""
    return Settlement(REQUEUE if requeue else REJECT, delivery_tag)


class Settled(Protocol):
    """What is told its outcome, once or more often; the first counts."""

    def settle(self, outcome: str) -> None:
        """Take the *outcome*."""


class Waiting:
    """What waits, on one channel, for its settlement (or its confirmation), by delivery tag."""

    def __init__(self) -> None:
        self._by_tag: dict[int, Settled] = {}
        self._tags: list[int] = []
        """A heap, since what an iterator hands out comes late.  Holds tags that wait no more, but never many."""

    def add(self, delivery_tag: int, waits: Settled) -> bool:
        """Wait for *delivery_tag*; returns False where too many wait already."""
        if len(self._by_tag) >= MAX_WAITING:
            return False
        self._by_tag[delivery_tag] = waits
        heappush(self._tags, delivery_tag)
        if len(self._tags) > 2 * len(self._by_tag) + SPARE_TAGS:
            self._tags = sorted(self._by_tag)  # which is a heap too
        return True

    def settle(self, settlement: Settlement) -> None:
        """Tell those that *settlement* is for.  One that nobody waits for is no error."""
        outcome, last, multiple = settlement
        for tag in self._up_to(last) if multiple else (last,):
            if (waits := self._by_tag.pop(tag, None)) is not None:
                waits.settle(outcome)

    def _up_to(self, last: int) -> Iterator[int]:
        """Take out the tags up to *last*, 0 for all, and look at no other: thousands may wait."""
        while self._tags and (self._tags[0] <= last or not last):
            yield heappop(self._tags)

    def settle_by(self, read: Callable[..., Settlement], *args: Any, **kwargs: Any) -> None:
        """Tell those that a client's method settles, whose arguments *read* understands."""
        self.settle(read(*args, **kwargs))

    def close(self, outcome: str = UNSETTLED) -> None:
        """Tell all that are left *outcome*: their channel is closed."""
        self._tags.clear()
        while self._by_tag:
            _, waits = self._by_tag.popitem()
            waits.settle(outcome)
