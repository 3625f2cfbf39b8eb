"""The messages of a channel that wait to be settled, and how they are settled.

Knows no client: AMQP counts deliveries on each channel, and an acknowledgement may be for all up to its tag.
"""

from __future__ import annotations

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
    """What waits, on one channel, for its settlement (or its confirmation): by delivery tag, oldest first."""

    def __init__(self) -> None:
        self._by_tag: dict[int, Settled] = {}

    def add(self, delivery_tag: int, waits: Settled) -> bool:
        """Wait for *delivery_tag*; returns False where too many wait already."""
        if len(self._by_tag) >= MAX_WAITING:
            return False
        self._by_tag[delivery_tag] = waits
        return True

    def settle(self, settlement: Settlement) -> None:
        """Tell those that *settlement* is for.  One that nobody waits for is no error."""
        outcome, last, multiple = settlement
        tags = [tag for tag in self._by_tag if tag <= last or not last] if multiple else (last,)
        for tag in tags:
            if (waits := self._by_tag.pop(tag, None)) is not None:
                waits.settle(outcome)

    def settle_by(self, read: Callable[..., Settlement], *args: Any, **kwargs: Any) -> None:
        """Tell those that a client's method settles, whose arguments *read* understands."""
        self.settle(read(*args, **kwargs))

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._by_tag.values()))

    def close(self, outcome: str = UNSETTLED) -> None:
        """Tell all that are left *outcome*: their channel is closed."""
        while self._by_tag:
            _, waits = self._by_tag.popitem()
            waits.settle(outcome)
