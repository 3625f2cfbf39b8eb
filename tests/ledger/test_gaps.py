"""Ids in the order of commits: none is lost, none is read twice, and what never comes is given up."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from otel_orders.ledger.gaps import GRACE, Gap, Reached, Snapshot, after, furthest

RUNNING, LATER = 10, 20


def test_what_is_missing_is_noticed_and_filled() -> None:
    reached = after(Reached(), [], [2, 3, 7], Snapshot(5, RUNNING), 0)
    assert reached == Reached(7, (Gap(1, 1), Gap(4, 6)))
    assert after(reached, [1, 5], [], Snapshot(5, RUNNING), 1) == Reached(7, (Gap(4, 4), Gap(6, 6)))


def test_a_gap_is_given_up_when_all_have_ended_that_can_have_taken_it() -> None:
    reached = after(Reached(), [], [2], Snapshot(5, RUNNING), 0)
    reached = after(reached, [], [], Snapshot(9, RUNNING), GRACE - 1)
    assert reached.gaps[0].until is None, "its transaction may have no number yet"
    reached = after(reached, [], [], Snapshot(9, LATER), GRACE)
    assert reached.gaps[0].until == LATER
    assert after(reached, [], [], Snapshot(LATER - 1, LATER + 9), 1e9).gaps
    assert not after(reached, [], [], Snapshot(LATER, LATER + 9), GRACE).gaps


class Table:
    """A table whose transactions each take some ids at once and end later, or never commit."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.taken = 0
        self.number = 100
        self.open: list[tuple[int, list[int]]] = []
        self.visible: set[int] = set()

    def happen(self) -> None:
        if self.open and self.data.draw(st.booleans()):
            _, ids = self.open.pop(self.data.draw(st.integers(0, len(self.open) - 1)))
            if self.data.draw(st.booleans()):
                self.visible.update(ids)
            return
        count = self.data.draw(st.integers(1, 3))
        self.open.append((self.number, list(range(self.taken + 1, self.taken + 1 + count))))
        self.number += 1
        self.taken += count

    def look(self, reached: Reached) -> tuple[list[int], list[int], Snapshot]:
        late = sorted(one for one in self.visible if any(gap.first <= one <= gap.last for gap in reached.gaps))
        new = sorted(one for one in self.visible if one > reached.last)[: self.data.draw(st.integers(1, 4))]
        return late, new, Snapshot(min((number for number, _ in self.open), default=self.number), self.number)


@given(st.data())
def test_every_id_that_is_committed_is_read_once(data: Any) -> None:
    table, reached, read, now = Table(data), Reached(), [], 0.0
    for _ in range(data.draw(st.integers(1, 40))):
        if data.draw(st.booleans()):
            table.happen()
        else:
            now += data.draw(st.sampled_from((0.1, GRACE)))
            late, new, snapshot = table.look(reached)
            read += late + new
            reached = after(reached, late, new, snapshot, now)
    while table.open:
        _, ids = table.open.pop()
        table.visible.update(ids)
    for _ in range(100):
        now += GRACE
        late, new, snapshot = table.look(reached)
        read += late + new
        reached = after(reached, late, new, snapshot, now)
    assert sorted(read) == sorted(table.visible)
    assert reached.gaps == ()


def test_who_is_behind_goes_on_from_where_the_other_has_come_and_keeps_what_it_knows_of_gaps() -> None:
    ours, kept = Reached(7, (Gap(1, 1, 5.0, LATER), Gap(4, 6, 5.0))), Reached(9, (Gap(1, 1, 900.0), Gap(4, 4, 900.0)))
    assert furthest(ours, kept, 8.0) == Reached(9, (Gap(1, 1, 5.0, LATER), Gap(4, 4, 8.0)))
    assert furthest(ours, Reached(7), 8.0) == ours
    assert furthest(Reached(), kept, 8.0) == Reached(9, (Gap(1, 1, 8.0), Gap(4, 4, 8.0)))


class Followers:
    """Two that follow one table on machines with clocks of their own, and keep how far they are in one place."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.kept = Reached()
        self.reached = [Reached(), Reached()]
        self.read: set[int] = set()

    def look(self, which: int, now: float, *, catch_up: bool = True) -> None:
        """catch_up: false where both look at the same moment, before either has kept anything."""
        clock = now + which * 1e6
        ours = furthest(self.reached[which], self.kept, clock) if catch_up else self.reached[which]
        late, new, snapshot = self.table.look(ours)
        self.read.update(late, new)
        self.reached[which] = after(ours, late, new, snapshot, clock)
        if late or new:
            self.kept = self.reached[which]


@given(st.data())
def test_two_that_follow_one_table_lose_nothing_and_give_up_what_never_comes(data: Any) -> None:
    table, now = Table(data), 0.0
    followers = Followers(table)
    for _ in range(data.draw(st.integers(1, 40))):
        if data.draw(st.booleans()):
            table.happen()
        else:
            now += data.draw(st.sampled_from((0.1, GRACE)))
            followers.look(data.draw(st.integers(0, 1)), now, catch_up=data.draw(st.booleans()))
    while table.open:
        _, ids = table.open.pop()
        table.visible.update(ids)
    for place in range(200):
        now += GRACE
        followers.look(place % 2, now)
    assert followers.read == table.visible
    assert [reached.gaps for reached in followers.reached] == [(), ()]
