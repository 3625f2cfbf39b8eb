"""What waits on a channel to be settled, and what one acknowledgement costs."""

from __future__ import annotations

from typing import Any, ClassVar

from hypothesis import given
from hypothesis import strategies as st

from otel_orders.instrumentation.settling import ACK, UNSETTLED, Settlement, Waiting


class Delivery:
    """Something that waits.  told: what all of them were told, in this order."""

    def __init__(self, tag: int, told: list[tuple[int, str]]) -> None:
        self._tag, self._told = tag, told

    def settle(self, outcome: str) -> None:
        self._told.append((self._tag, outcome))


class Tag(int):
    """A delivery tag that counts how often one is compared."""

    compared: ClassVar[int] = 0

    def __lt__(self, other: int) -> bool:
        Tag.compared += 1
        return int(self) < int(other)

    def __le__(self, other: int) -> bool:
        Tag.compared += 1
        return int(self) <= int(other)


STEPS = st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=20)


@given(st.permutations(range(1, 11)), STEPS)
def test_messages_may_be_handed_out_and_settled_in_any_order(tags: list[int], steps: list[tuple[int, bool]]) -> None:
    told: list[tuple[int, str]] = []
    waiting, left = Waiting(), set(tags)
    for tag in tags:
        waiting.add(tag, Delivery(tag, told))
    for last, multiple in steps:
        meant = {tag for tag in left if tag <= last or not last} if multiple else left & {last}
        told.clear()
        waiting.settle(Settlement(ACK, last, multiple))
        assert sorted(told) == [(tag, ACK) for tag in sorted(meant)]
        left -= meant
    told.clear()
    waiting.close()
    assert sorted(told) == [(tag, UNSETTLED) for tag in sorted(left)]


def test_an_acknowledgement_looks_only_at_what_it_settles() -> None:
    told: list[tuple[int, str]] = []
    waiting, count = Waiting(), 1000
    for tag in range(1, count + 1):
        waiting.add(Tag(tag), Delivery(tag, told))
    Tag.compared = 0
    for tag in range(1, count + 1):
        waiting.settle(Settlement(ACK, Tag(tag), multiple=True))
    assert len(told) == count
    assert Tag.compared < 30 * count


def test_one_message_that_is_never_settled_keeps_nothing_of_the_others() -> None:
    told: list[tuple[int, str]] = []
    waiting = Waiting()
    for tag in range(1, 5000):
        waiting.add(tag, Delivery(tag, told))
        if tag > 1:
            waiting.settle(Settlement(ACK, tag))
    kept: Any = vars(waiting).values()
    assert max(map(len, kept)) < 500
