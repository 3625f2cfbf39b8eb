from __future__ import annotations

from itertools import pairwise, permutations

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from otel_orders.ledger import chain, model
from otel_orders.ledger.kept import CHANGED, OBSERVED, Kept
from tests.ledger.strategies import DAY, LIFECYCLE, MINUTE, PLAN, SECOND, START, event, histories, path, tangles


def moves(events: list[Kept]) -> list[Kept]:
    return [one for one in events if one.kind in (CHANGED, OBSERVED)]


def in_order(events: list[Kept]) -> list[Kept]:
    return [one for one, _, _ in chain.chained(events, PLAN)]


def statuses(events: list[Kept]) -> list[str]:
    return [one.to for one in in_order(events)]


@given(st.one_of(histories(), tangles()), st.randoms())
def test_the_order_of_arrival_does_not_matter(events: list[Kept], random: st.DataObject) -> None:
    shuffled = moves(events)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert chain.chained(shuffled, PLAN) == chain.chained(moves(events), PLAN)


@given(st.one_of(histories(), tangles()))
def test_every_event_happens_once(events: list[Kept]) -> None:
    assert sorted(one.id for one in in_order(moves(events))) == sorted(one.id for one in moves(events))


@given(st.one_of(histories(), tangles()))
def test_versions_are_followed(events: list[Kept]) -> None:
    versions = [one.version for one in in_order(moves(events)) if one.version is not None]
    assert versions == sorted(versions)


@given(st.one_of(histories(), tangles()))
def test_nothing_is_overtaken_by_what_came_more_than_the_skew_of_clocks_later(events: list[Kept]) -> None:
    counted = [counts_as for _, counts_as, _ in chain.chained(moves(events), PLAN)]
    for place, counts_as in enumerate(counted):
        assert max(counted[:place], default=counts_as) <= counts_as + chain.MAX_SKEW


@given(histories(pauses=(1, SECOND, MINUTE, DAY), skews=(0,), what=("move", "nameless", "self")))
def test_with_right_clocks_and_no_gap_time_decides(events: list[Kept]) -> None:
    """An order that starts in the middle, or goes on after its end, has a gap that what comes later may fill."""
    before = (None, *(event.to for event in events))
    assume(all(chain.chains(event, status, PLAN) for event, status in zip(events, before, strict=False)))
    assert in_order(events) == sorted(events, key=lambda one: one.at)


@settings(max_examples=400)
@given(st.one_of(histories(8), tangles()), st.data())
def test_an_event_that_may_be_appended_comes_last(events: list[Kept], drawn: st.DataObject) -> None:
    come = drawn.draw(st.permutations(moves(events)))
    for place in range(len(come)):
        before, others = come[:place], come[place:]
        fold, _ = model.folded(before, 0, PLAN)
        for newest in others:
            if model.is_newest(fold, newest):
                ended = (newest, newest.at, chain.chains(newest, fold.status, PLAN))
                assert chain.chained([*before, newest], PLAN) == [*chain.chained(before, PLAN), ended]


@given(histories())
def test_most_events_may_be_appended(events: list[Kept]) -> None:
    """Or else the test above says nothing, and ingest is slow."""
    fold, _ = model.folded([], 0, PLAN)
    chained = path("INITIATED", "FILE_UPLOADED", "SUBMITTED", "PRICE_CALCULATED")
    for one in chained:
        assert model.is_newest(fold, one)
        model.step(fold, one, one.at, PLAN, model.Facts(), chains=True)
    later = max([*(one.at for one in events), chained[-1].at]) + 11 * SECOND
    assert model.is_newest(model.folded(moves(events), 0, PLAN)[0], event("SHIPPED", later, version=99))


@given(st.one_of(histories(), tangles()))
def test_a_late_event_never_is_where_the_order_is(events: list[Kept]) -> None:
    counted = [counts_as for _, counts_as, _ in chain.chained(moves(events), PLAN)]
    assert all(max(counted) - counts_as <= chain.MAX_SKEW for counts_as in counted[-1:])


@given(histories(), st.sampled_from(tuple(LIFECYCLE.statuses)), st.integers(0, 9 * DAY))
def test_a_late_event_leaves_an_order_where_it_is(events: list[Kept], to: str, late_by: int) -> None:
    come = [msgspec.structs.replace(one, version=None) for one in moves(events)]
    newest = event("PACKAGING", max(one.at for one in events) + 2 * chain.MAX_SKEW)
    late = event(to, newest.at - chain.MAX_SKEW - 1 - late_by, "SUBMITTED")
    assert in_order([*come, newest, late])[-1] == newest


@pytest.mark.parametrize("events", [*permutations(path("INITIATED", "FILE_UPLOADED", "SUBMITTED", pause=0))])
def test_events_of_one_instant_chain(events: tuple[Kept, ...]) -> None:
    assert statuses(list(events)) == ["INITIATED", "FILE_UPLOADED", "SUBMITTED"]


@pytest.mark.parametrize(
    "times",
    [
        pytest.param((0, 9, 5), id="the last clock is behind"),
        pytest.param((9, 5, 1), id="each clock is behind the one before"),
        pytest.param((5, 0, 10), id="the first clock is ahead"),
    ],
)
def test_clocks_that_differ_a_little_do_not_matter(times: tuple[int, ...]) -> None:
    way = ("SUBMITTED", "PRICE_CALCULATED", "CANCELLED")
    steps = zip((None, *way), way, times, strict=False)
    assert statuses([event(to, START + at * SECOND, left) for left, to, at in steps]) == [*way]


def test_beyond_the_skew_of_clocks_time_decides() -> None:
    submitted = event("SUBMITTED", START)
    priced = event("PRICE_CALCULATED", START - chain.MAX_SKEW - 1, "SUBMITTED")
    assert statuses([submitted, priced]) == ["PRICE_CALCULATED", "SUBMITTED"]


def test_a_step_that_was_done_twice_does_not_put_the_order_back() -> None:
    uploaded, again = (event("FILE_UPLOADED", START + at * SECOND, "INITIATED") for at in (0, 5))
    submitted = event("SUBMITTED", START + 9 * SECOND, "FILE_UPLOADED")
    assert statuses([uploaded, again, submitted])[-1] == "SUBMITTED"


def test_what_does_not_say_where_it_came_from_proves_nothing() -> None:
    packed = event("PACKAGING", START, "MANUFACTURING_COMPLETED")
    shipped = event("SHIPPED", START + 5 * SECOND, kind=OBSERVED)
    assert statuses([packed, shipped]) == ["PACKAGING", "SHIPPED"]


def test_after_a_gap_time_decides() -> None:
    """The price came from a service that is not instrumented; the cancellation still names the status before."""
    priced = event("PRICE_CALCULATED", START)
    started = event("MANUFACTURING_STARTED", START + MINUTE, "MANUFACTURING_APPROVED")
    cancelled = event("CANCELLED", START + MINUTE + SECOND, "PRICE_CALCULATED")
    assert statuses([priced, started, cancelled])[-1] == "CANCELLED"


def test_a_version_says_more_than_a_clock() -> None:
    first = event("PRICE_CALCULATED", START + DAY, "SUBMITTED", version=2)
    second = event("CANCELLED", START, "PRICE_CALCULATED", version=3)
    assert statuses([second, first]) == ["PRICE_CALCULATED", "CANCELLED"]


def test_a_way_may_lead_through_versions_only_in_their_order() -> None:
    early = event("MANUFACTURING_APPROVED", START, "PRICE_CALCULATED")
    first = event("SUBMITTED", START + SECOND, version=1)
    second = event("PRICE_CALCULATED", START + 2 * SECOND, "SUBMITTED", version=2)
    assert statuses([early, second, first]) == ["SUBMITTED", "PRICE_CALCULATED", "MANUFACTURING_APPROVED"]
    swapped = [early, event("SUBMITTED", START + SECOND, version=2), event("PRICE_CALCULATED", START, "X", version=1)]
    assert statuses(swapped)[-1] == "SUBMITTED"


def test_a_version_does_not_overtake_the_one_before_it() -> None:
    submitted = event("SUBMITTED", START)
    approved = event("MANUFACTURING_APPROVED", START + SECOND, "PRICE_CALCULATED")
    lost = event("PACKAGING", START + 2 * SECOND, "MANUFACTURING_COMPLETED", version=1)
    priced = event("PRICE_CALCULATED", START + 3 * SECOND, "SUBMITTED", version=2)
    assert in_order([priced, lost, approved, submitted]) == [submitted, approved, lost, priced]


def test_an_event_that_shortens_a_way_is_not_appended() -> None:
    behind = event("SHIPPED", START + SECOND, "PACKAGING")
    way = [event("MANUFACTURING_COMPLETED", START), event("SUBMITTED", START + 2 * SECOND, "MANUFACTURING_COMPLETED")]
    way.append(event("PACKAGING", START + 3 * SECOND, "SUBMITTED"))
    shorter = event("PACKAGING", START + 4 * SECOND, "MANUFACTURING_COMPLETED")
    assert in_order([behind, *way]) == [*way, behind]
    assert in_order([behind, *way, shorter])[1] == shorter
    assert not model.is_newest(model.folded([behind, *way], 0, PLAN)[0], shorter)


def test_ties_go_by_the_pipeline_and_then_by_id() -> None:
    tied = [event(to, START, "X", id=bytes([number]) * 16) for number, to in enumerate(("SHIPPED", "PACKAGING"))]
    twins = [event("SHIPPED", START, "X", id=bytes([number]) * 16) for number in range(2)]
    assert statuses(tied) == ["PACKAGING", "SHIPPED"]
    assert in_order(twins[::-1]) == twins


def test_a_flood_of_events_that_chain_with_nothing_is_put_in_order_at_once() -> None:
    flood = [event(f"S{number}", START + number, f"S{number + 7 * number % 1000}") for number in range(1000)]
    ordered = in_order(flood)
    assert all(later.at - earlier.at > -chain.MAX_SKEW for earlier, later in pairwise(ordered))
