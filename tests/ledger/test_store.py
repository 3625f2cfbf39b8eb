from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_orders import names
from otel_orders.ledger import apply, model
from otel_orders.ledger.kept import FAILED, MESSAGE, Kept, unpack
from otel_orders.ledger.sla import GRACE
from otel_orders.ledger.store import LIFECYCLE, Batch, Received, Seen
from tests.ledger import audit
from tests.ledger.strategies import (
    AFTER,
    BEFORE,
    DAY,
    HOUR,
    MINUTE,
    PLAN,
    SECOND,
    START,
    batches,
    event,
    histories,
    path,
    plan_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from otel_orders.ledger.kept import Order
    from otel_orders.ledger.store import Store
    from otel_orders.ledger.totals import Delta

    NewStore = Callable[[], AbstractContextManager[Store]]

SUBMITTED = path("INITIATED", "FILE_UPLOADED", "SUBMITTED", pause=SECOND)
STUCK_AT = SUBMITTED[-1].at + DAY


def of(order_id: str, events: Sequence[Kept]) -> list[Received]:
    return [Received(order_id, one) for one in events]


@st.composite
def traffic(draw: Callable[..., Any]) -> tuple[dict[str, list[Kept]], list[list[Received]]]:
    """Draw what happens to several orders, and the batches in which it comes: in any order, some twice."""
    events = {f"order-{number}": draw(histories(8)) for number in range(draw(st.integers(1, 4)))}
    came = [received for order_id, some in events.items() for received in of(order_id, some)]
    again = draw(st.lists(st.sampled_from(came), max_size=5))
    return events, draw(batches(draw(st.permutations([*came, *again]))))


@pytest.mark.no_cover
@settings(max_examples=60)
@given(traffic(), st.data())
def test_totals_and_rows_agree_after_every_batch_and_sweep(
    new_store: NewStore, drawn: tuple[dict[str, list[Kept]], list[list[Received]]], data: st.DataObject
) -> None:
    events, arrived = drawn
    come: dict[str, list[Kept]] = {}
    now = START
    with new_store() as store:
        batch = Batch(store, PLAN)
        before = audit.counters(store)
        for received in arrived:
            batch.ingest(received)
            for order_id, one in received:
                come.setdefault(order_id, []).append(one)
            if data.draw(st.booleans()):
                now += data.draw(st.sampled_from((MINUTE, HOUR, DAY, 30 * DAY)))
                swept(batch, now)
                audit.check(store, come, PLAN, now)
            audit.check(store, come, PLAN)
            after = audit.counters(store)
            assert after >= before
            before = after
        assert {order_id: {one.id for one in some} for order_id, some in come.items()} == {
            order_id: {one.id for one in some} for order_id, some in events.items()
        }
        assert sum(after[names.LEDGER_EVENTS, result] for result in RESULTS) == sum(map(len, arrived))


RESULTS = (
    *(apply.ACCEPTED, apply.DUPLICATE, apply.ILLEGAL, apply.SKIPPED),
    *(apply.UNKNOWN_STATUS, apply.NEGATIVE_DURATION),
)


@pytest.mark.no_cover
@settings(max_examples=40)
@given(traffic())
def test_any_arrival_ends_in_the_same_orders(
    new_store: NewStore, drawn: tuple[dict[str, list[Kept]], list[list[Received]]]
) -> None:
    events, arrived = drawn
    with new_store() as store, new_store() as other:
        for received in arrived:
            Batch(store, PLAN).ingest(received)
        Batch(other, PLAN).ingest([one for order_id, some in events.items() for one in of(order_id, some)])
        found, expected = audit.orders(store), audit.orders(other)
        assert {order_id: order.fold for order_id, order in found.items()} == {
            order_id: order.fold for order_id, order in expected.items()
        }


def swept(batch: Batch, now: int, limit: int = 1000) -> int:
    """Sweep until nothing is due; return how many orders were looked at."""
    looked_at = 0
    while found := batch.sweep(now, limit):
        looked_at += found
    return looked_at


def test_an_order_is_stuck_within_one_sweep_after_its_deadline_and_once(store: Store) -> None:
    batch = Batch(store, PLAN)
    batch.ingest(of("1", SUBMITTED))
    swept(batch, STUCK_AT - 1)
    assert stuck(store) == 0
    for _ in range(2):
        batch.sweep(STUCK_AT)
        assert stuck(store) == 1
    batch.ingest(of("1", [event("PRICE_CALCULATED", STUCK_AT + 1, "SUBMITTED")]))
    assert stuck(store) == 0


def stuck(store: Store) -> int:
    return store.totals().get((names.STUCK, "SUBMITTED"), 0)


def test_a_second_sweeper_does_no_harm(open_store: Callable[[], Store]) -> None:
    store, other = open_store(), open_store()
    events = {str(number): SUBMITTED for number in range(20)}
    for order_id, some in events.items():
        Batch(store, PLAN).ingest(of(order_id, some))
    for now in (START + HOUR, STUCK_AT - 1, STUCK_AT, STUCK_AT + DAY):
        for _ in range(3):
            Batch(store, PLAN).sweep(now, 7)
            Batch(other, PLAN).sweep(now, 5)
        assert swept(Batch(store, PLAN), now) + swept(Batch(other, PLAN), now) < 20
        audit.check(store, events, PLAN, now)
    assert stuck(store) == 20


def test_a_sweeper_with_an_older_clock_does_no_harm(store: Store) -> None:
    batch = Batch(store, PLAN)
    batch.ingest(of("1", SUBMITTED))
    swept(batch, STUCK_AT)
    before = store.totals()
    batch.ingest(of("2", SUBMITTED))
    swept(batch, STUCK_AT - HOUR)
    assert {series: store.totals()[series] - count for series, count in before.items() if series[0] == names.STUCK} == {
        (names.STUCK, "SUBMITTED"): 0
    }


def test_a_sweep_writes_only_what_is_due(store: Store) -> None:
    batch = Batch(store, PLAN)
    young = path("INITIATED", "FILE_UPLOADED", start=START + 12 * HOUR)
    batch.ingest([one for number in range(50) for one in of(f"young-{number}", young)])
    batch.ingest(of("old", path("INITIATED")))
    untouched = {order_id: store.state(order_id) for order_id in audit.orders(store) if order_id != "old"}
    assert batch.sweep(START + DAY) == 1
    assert {order_id: store.state(order_id) for order_id in untouched} == untouched
    assert store.totals()[names.STUCK, "INITIATED"] == 1
    assert batch.sweep(START + DAY) == 0


def test_an_order_that_moved_on_or_ended_is_looked_at_once(store: Store) -> None:
    """Its stored due_at is early then, since moving it later with each event would cost an index."""
    batch = Batch(store, PLAN)
    for one in path("INITIATED", "FILE_UPLOADED"):
        batch.ingest(of("moved", [one]))
    batch.ingest(of("ended", path("INITIATED")))
    batch.ingest(of("ended", [event("CANCELLED", START + 2 * MINUTE, "INITIATED")]))
    assert swept(batch, START + DAY - 1) == 0
    assert swept(batch, START + DAY) == 2
    assert swept(batch, START + DAY + MINUTE - 1) == 0
    assert swept(batch, START + 30 * DAY) == 1
    assert swept(batch, START + 300 * DAY) == 0


def test_a_late_event_brings_a_timer_forward(store: Store) -> None:
    batch = Batch(store, PLAN)
    submitted = event("SUBMITTED", START + HOUR, "FILE_UPLOADED")
    batch.ingest(of("1", [event("SUBMITTED", START + DAY, "SUBMITTED")]))
    batch.ingest(of("1", [submitted, event("INITIATED", START - 20 * DAY)]))
    swept(batch, START + 2 * DAY)
    assert (names.SLA_OVERDUE, "shipped_in_3_weeks") in audit.totals(store, model.STANDING)


def test_a_sweep_takes_what_is_due_in_portions_soonest_first(store: Store) -> None:
    batch = Batch(store, PLAN)
    for number in range(5):
        batch.ingest(of(str(number), path("INITIATED", start=START - number * SECOND)))
    assert batch.sweep(START + DAY, 2) == 2
    assert [order_id for order_id, order in audit.orders(store).items() if order.swept_at] == ["3", "4"]
    assert swept(batch, START + DAY, 2) == 3


def test_a_breach_is_counted_after_grace_and_taken_back_in_the_books_when_it_was_none(store: Store) -> None:
    batch = Batch(store, PLAN)
    batch.ingest(of("1", SUBMITTED))
    late = event("PRICE_CALCULATED", SUBMITTED[-1].at + MINUTE, "SUBMITTED")
    breached = (names.SLA_BREACHED, "price_in_5_minutes", "retail")
    swept(batch, SUBMITTED[-1].at + 5 * MINUTE + GRACE - 1)
    assert breached not in store.totals()
    swept(batch, SUBMITTED[-1].at + 5 * MINUTE + GRACE)
    assert store.totals()[breached] == 1
    batch.ingest(of("1", [late]))
    found = store.totals()
    assert (found[breached], found[names.CORRECTIONS, names.SLA_BREACHED]) == (1, 1)
    assert found[names.SLA_MET, "price_in_5_minutes", "retail"] == 1
    assert found[names.SLA_OVERDUE, "price_in_5_minutes"] == 0


def test_each_event_has_its_result(store: Store) -> None:
    batch = Batch(store, PLAN)
    first = of("1", SUBMITTED)
    assert batch.ingest([*first, first[0]]) == [apply.ACCEPTED] * 3 + [apply.DUPLICATE]
    strange = [
        event("INITIATED", START + HOUR, "SUBMITTED"),
        event("SHIPPED", START + HOUR, "SUBMITTED"),
        event("MYSTERY", START + HOUR, "SUBMITTED"),
        event("PRICE_CALCULATED", START, "SUBMITTED"),
        event("PRICE_CALCULATED", START + HOUR, "SUBMITTED", kind=FAILED),
        event("MYSTERY", START + HOUR, "SUBMITTED", kind=FAILED),
        event("confirmed", START + HOUR, kind=MESSAGE),
    ]
    results = [batch.ingest(of("1", [*strange[:place], one]))[-1] for place, one in enumerate(strange)]
    assert results == [
        *(apply.ILLEGAL, apply.SKIPPED, apply.UNKNOWN_STATUS, apply.ACCEPTED),
        *(apply.ACCEPTED, apply.UNKNOWN_STATUS, apply.ACCEPTED),
    ]
    assert batch.ingest(of("2", [*SUBMITTED, event("PRICE_CALCULATED", START, "SUBMITTED")]))[-1] == "negative_duration"


def test_what_was_refused_before_is_counted_too(store: Store) -> None:
    Batch(store, PLAN).ingest([], rejected={"late": 3, "rejected": 2})
    assert store.totals() == {(names.LEDGER_EVENTS, "late"): 3, (names.LEDGER_EVENTS, "rejected"): 2}


def test_signs_of_life_and_notes_are_kept_with_the_batch(store: Store) -> None:
    batch = Batch(store, PLAN)
    newer, older = (Seen("mes-api", "pod-1", "web", at, "abc") for at in (START + 1, START))
    batch.ingest([], seen=[newer], notes={"offset": "5"})
    batch.ingest([], seen=[older], notes={"offset": "7"})
    assert store.seen() == [newer]
    assert (store.get("offset"), store.get("nothing")) == ("7", None)


def test_an_order_is_full_and_its_neighbours_are_not(store: Store) -> None:
    batch = Batch(store, PLAN)
    moves = path(*["INITIATED", "FILE_UPLOADED"] * 600, pause=SECOND)
    poison = [event("confirmed", START + place, kind=MESSAGE) for place in range(600)]
    results = batch.ingest([*of("full", [*poison, *moves]), *of("neighbour", SUBMITTED)])
    assert results.count(apply.FULL) == 100 + 700
    assert results[-3:] == [apply.ACCEPTED] * 3
    assert batch.ingest(of("full", [event("shut", START, kind=MESSAGE), event("SHIPPED", START)])) == [apply.FULL] * 2
    audit.check(store, {"full": [*poison[:500], *moves[:500]], "neighbour": SUBMITTED}, PLAN)
    assert store.totals()[names.LEDGER_EVENTS, "rejected"] == 802


def test_an_order_full_of_moves_takes_no_message_either(store: Store) -> None:
    batch = Batch(store, PLAN)
    moves = [event("SUBMITTED", START + place * MINUTE, "SUBMITTED") for place in range(1000)]
    assert apply.FULL not in batch.ingest(of("full", moves))
    assert batch.ingest(of("full", [event("confirmed", START, kind=MESSAGE)])) == [apply.FULL]
    assert len(unpack(store.state("full") or b"").events) == 1000


@pytest.mark.parametrize("order_id", ["a\0b", "Auftrag-é-\U0001f48d", "'; DROP TABLE orders; --", '"', "%", " "])
def test_an_order_id_may_be_any_text(store: Store, order_id: str) -> None:
    batch = Batch(store, PLAN)
    batch.ingest(of("a", SUBMITTED))
    for one in SUBMITTED:
        batch.ingest(of(order_id, [one]))
        batch.ingest(of(order_id + "2", [one]))
    audit.check(store, dict.fromkeys(("a", order_id, order_id + "2"), SUBMITTED), PLAN)


def test_more_orders_than_a_statement_has_parameters(store: Store) -> None:
    received = [Received(f"order-{number}", SUBMITTED[0]) for number in range(40_000)]
    batch = Batch(store, PLAN)
    batch.ingest(received)
    assert set(batch.ingest(received)) == {apply.DUPLICATE}
    assert store.totals()[names.IN_STATUS, "INITIATED"] == 40_000


def test_another_lifecycle_folds_orders_anew_and_counts_nothing_again(store: Store) -> None:
    old, new = Batch(store, plan_of(BEFORE)), Batch(store, plan_of(AFTER))
    events = {"submitted": SUBMITTED, "lost": path("INITIATED", "LOST"), "new": path("INITIATED")}
    for order_id, some in events.items():
        old.ingest(of(order_id, some))
    swept(old, START + 5 * HOUR)
    counted = audit.counters(store)

    new.rebase()

    assert audit.counters(store) == counted
    assert store.get(LIFECYCLE) == plan_of(AFTER).lifecycle.hash
    swept(new, START + 5 * HOUR)
    assert audit.totals(store, model.STANDING) == {
        (names.IN_STATUS, "SUBMITTED"): 1,
        (names.IN_STATUS, "INITIATED"): 1,
        (names.IN_STATUS, "unknown"): 1,
        (names.STUCK, "SUBMITTED"): 1,
        (names.SLA_OVERDUE, "closed"): 1,
        (names.SLA_OVERDUE, "uploaded"): 2,
    }
    audit.check_waiting(store, audit.orders(store), plan_of(AFTER))


@pytest.mark.no_cover
@settings(max_examples=40)
@given(traffic(), st.sampled_from((BEFORE, AFTER)), st.data())
def test_after_a_change_of_lifecycle_gauges_are_what_they_would_always_have_been(
    new_store: NewStore, drawn: tuple[dict[str, list[Kept]], list[list[Received]]], text: str, data: st.DataObject
) -> None:
    _, arrived = drawn
    cut = data.draw(st.integers(0, len(arrived)))
    plan, now = plan_of(text), START + data.draw(st.sampled_from((0, DAY, 60 * DAY)))
    with new_store() as store, new_store() as other:
        old, new, always = Batch(store, PLAN), Batch(store, plan), Batch(other, plan)
        for received in arrived[:cut]:
            old.ingest(received)
        swept(old, now)
        new.rebase()
        before = audit.counters(store)
        for received in arrived[cut:]:
            new.ingest(received)
        for received in arrived:
            always.ingest(received)
        swept(new, now + DAY)
        swept(always, now + DAY)
        assert audit.totals(store, model.STANDING) == audit.totals(other, model.STANDING)
        assert {order_id: order.fold for order_id, order in audit.orders(store).items()} == {
            order_id: order.fold for order_id, order in audit.orders(other).items()
        }
        audit.check_waiting(store, audit.orders(store), plan)
        assert audit.counters(store) >= before


def test_a_rebase_is_all_or_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch(store, PLAN)
    for number in range(3):
        batch.ingest(of(str(number), SUBMITTED))
    before = (store.totals(), [store.state(str(number)) for number in range(3)], store.get(LIFECYCLE))
    looked_at: list[Order] = []

    def stop_midway(order: Order, plan: model.Plan, delta: Delta) -> None:
        looked_at.append(order)
        rebase(order, plan, delta)
        if len(looked_at) == 3:
            raise MemoryError

    rebase = apply.rebase
    monkeypatch.setattr(apply, "rebase", stop_midway)
    with pytest.raises(MemoryError):
        Batch(store, plan_of(AFTER)).rebase()
    assert (store.totals(), [store.state(str(number)) for number in range(3)], store.get(LIFECYCLE)) == before
