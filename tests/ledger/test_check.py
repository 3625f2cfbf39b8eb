"""The proof that totals are what the events say, and what it finds where they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_orders import names
from otel_orders.ledger import apply, model
from otel_orders.ledger.check import UNREADABLE, check, repair
from otel_orders.ledger.kept import FAILED, Fold, Order, pack, readable, unpack
from otel_orders.ledger.operators import Operators
from otel_orders.ledger.store import Batch, Received
from otel_orders.ledger.store.postgres import PostgresStore
from tests.ledger import audit
from tests.ledger.stores import raw
from tests.ledger.strategies import BEFORE, DAY, HOUR, MINUTE, PLAN, SECOND, START, event, path, plan_of
from tests.ledger.test_store import swept, traffic

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from otel_orders.ledger.kept import Kept
    from otel_orders.ledger.store import Store

    NewStore = Callable[[], AbstractContextManager[Store]]

SUBMITTED = path("INITIATED", "FILE_UPLOADED", "SUBMITTED", pause=SECOND)
SHORT = model.Retention(orders=10 * DAY, errors=3 * DAY)


def keep(store: Store, *order_ids: str) -> None:
    Batch(store, PLAN).ingest([Received(order_id, one) for order_id in order_ids for one in SUBMITTED])


def spoil(store: Store, statement: str, *parameters: Any) -> None:
    with raw(store) as other:
        if isinstance(store, PostgresStore):
            statement = statement.replace("?", "%b")
        assert other.execute(statement, parameters).rowcount == 1


@pytest.mark.no_cover
@settings(max_examples=40)
@given(traffic(), st.data())
def test_whatever_happens_to_a_ledger_its_totals_are_proved(
    new_store: NewStore, drawn: tuple[dict[str, list[Kept]], list[list[Received]]], data: st.DataObject
) -> None:
    """Batches, sweeps, holds, erasures, removal for age and another lifecycle, in any order."""
    plans = [model.Plan(PLAN.lifecycle, SHORT), model.Plan(plan_of(BEFORE).lifecycle, SHORT)]
    now = [START]
    with new_store() as store:
        batch = Batch(store, plans[0])
        operators = Operators(store, plans[0], lambda: now[0])
        before = audit.counters(store)
        for received in drawn[1]:
            batch.ingest(received)
            what = data.draw(st.sampled_from(("sweep", "sweep", "hold", "erase", "rebase", "nothing")))
            known = sorted(audit.orders(store))
            if what == "sweep":
                now[0] += data.draw(st.sampled_from((MINUTE, HOUR, DAY, 5 * DAY, 30 * DAY)))
                swept(batch, now[0])
            elif what == "hold" and known:
                order_id = data.draw(st.sampled_from(known))
                status = unpack(store.state(order_id) or b"").fold.status
                if status is not None and status not in plans[0].terminal:
                    operators.hold(order_id, "2d", "whatever", "anna")
            elif what == "erase" and known:
                operators.erase(data.draw(st.sampled_from(known)), "anna")
            elif what == "rebase":
                plans.reverse()
                batch, operators = Batch(store, plans[0]), Operators(store, plans[0], lambda: now[0])
                batch.rebase()
            assert check(store, plans[0]).differences == []
            after = audit.counters(store)
            assert after >= before
            before = after


def test_a_wrong_counter_histogram_and_gauge_are_named(store: Store) -> None:
    keep(store, "1", "2")
    spoil(store, "UPDATE totals SET value = value + 1 WHERE series = ?", '["orders_reached_total","SUBMITTED"]')
    spoil(store, "UPDATE totals SET value = 7 WHERE series = ?", '["orders_in_status","SUBMITTED"]')
    bucket = '["order_time_in_status_seconds","INITIATED","retail",1000]'
    spoil(store, "UPDATE totals SET value = value - 1 WHERE series = ?", bucket)
    assert check(store, PLAN).differences == [
        ("orders_in_status{SUBMITTED}", "is 7 and should be 2"),
        ("order_time_in_status_seconds{INITIATED,retail,1000}", "is 1 and should be 2"),
        ("orders_reached_total{SUBMITTED}", "is 3 and should be 2"),
    ]


def test_an_order_that_differs_is_named_with_what_differs_and_repaired(store: Store) -> None:
    keep(store, "1", "2", "3")
    right = store.state("2")
    order = unpack(right or b"")
    spoil(store, "UPDATE orders SET state = ? WHERE order_id = '2'", pack(Order(Fold("SHIPPED"), 0, order.events)))
    spoil(store, "UPDATE orders SET stage = 7, waiting_since = 5 WHERE order_id = '1'")
    spoil(store, "UPDATE orders SET due_at = NULL WHERE order_id = '3'")
    spoil(store, "UPDATE totals SET value = 9 WHERE series = ?", '["orders_in_status","SUBMITTED"]')
    found = check(store, PLAN)
    by_order = dict(found.differences)
    assert by_order["1"] == f"stage is 7 and should be 2; waiting_since is 5 and should be {SUBMITTED[-1].at}"
    assert by_order["2"].startswith("status is SHIPPED and should be SUBMITTED; entered_at is 0 and should be ")
    assert by_order["3"].startswith(f"due_at is {model.NEVER} and should be ")
    assert found.orders == 3
    before = audit.counters(store)

    repair(store, PLAN, found)

    assert check(store, PLAN).differences == []
    assert store.state("2") == right
    assert audit.counters(store) == before
    audit.check_waiting(store, audit.orders(store), PLAN)


def test_an_event_that_was_lost_or_made_up_is_noticed_by_the_number_of_events(store: Store) -> None:
    keep(store, "1")
    order = unpack(store.state("1") or b"")
    order.events.append(event("INITIATED", START, kind=3))
    spoil(store, "UPDATE orders SET state = ? WHERE order_id = '1'", pack(order))
    assert check(store, PLAN).differences == [("otel_orders_ledger_events_total{kept}", "is 3 and should be 4")]


def test_a_repair_changes_no_counter_and_carries_what_no_order_explains(store: Store) -> None:
    keep(store, "1", "2")
    spoil(store, "DELETE FROM orders WHERE order_id = '2'")
    found, before = check(store, PLAN), audit.counters(store)
    assert ("orders_reached_total{SUBMITTED}", "is 2 and should be 1") in found.differences
    repair(store, PLAN, found)
    assert check(store, PLAN).right
    assert audit.counters(store) == before
    keep(store, "3")
    assert check(store, PLAN).right


def test_an_early_timer_is_right_since_the_sweep_only_looks(store: Store) -> None:
    keep(store, "1")
    spoil(store, "UPDATE orders SET due_at = 1 WHERE order_id = '1'")
    assert check(store, PLAN).right


@pytest.mark.parametrize("rotten", [b"", b"\xff", b"\xc1", pack(Order(Fold("X")))[:-2], b"\x91\x01"])
def test_a_rotten_row_is_reported_and_its_neighbours_are_proved(store: Store, rotten: bytes) -> None:
    keep(store, "1", "2", "3")
    spoil(store, "UPDATE orders SET state = ? WHERE order_id = '2'", rotten)
    found = check(store, PLAN)
    assert found.unreadable == ["2"]
    assert found.differences[0] == ("2", UNREADABLE)
    repair(store, PLAN, found)
    assert check(store, PLAN).differences == [("2", UNREADABLE)]
    Operators(store, PLAN).erase("2", "anna")
    assert check(store, PLAN).right


def test_one_rotten_row_stops_neither_the_sweep_nor_another_lifecycle(store: Store) -> None:
    keep(store, "1", "2", "3")
    batch = Batch(store, PLAN)
    spoil(store, "UPDATE orders SET state = ? WHERE order_id = '2'", b"\xff")
    assert swept(batch, SUBMITTED[-1].at + DAY) == 3
    assert store.totals()[names.STUCK, "SUBMITTED"] == 2
    assert store.totals()[names.UNREADABLE,] == 1
    other = Batch(store, plan_of(BEFORE))
    other.rebase()
    assert audit.totals(store, {names.STUCK}) == {(names.STUCK, "SUBMITTED"): 2}
    assert store.state("2") == b"\xff"
    assert store.totals()[names.UNREADABLE,] == 1  # once, by whatever it is met


def test_a_rotten_row_without_a_timer_is_counted_when_an_event_of_it_comes(store: Store) -> None:
    keep(store, "1", "2")
    spoil(store, "UPDATE orders SET state = ?, due_at = 9223372036854775807 WHERE order_id = '2'", b"\xff")
    for _ in range(2):
        results = Batch(store, PLAN).ingest([Received(order_id, SUBMITTED[0]) for order_id in ("1", "2")])
        assert results == [apply.DUPLICATE, apply.UNREADABLE]
        assert store.totals()[names.UNREADABLE,] == 1


@pytest.mark.no_cover
@settings(max_examples=200)
@given(st.data())
def test_any_damage_to_a_row_is_read_or_is_none(data: st.DataObject) -> None:
    order = Order(Fold("SUBMITTED", START, START, -1), 5, SUBMITTED)
    row = bytearray(pack(order))
    for _ in range(data.draw(st.integers(1, 3))):
        row[data.draw(st.integers(0, len(row) - 1))] = data.draw(st.integers(0, 255))
    found = readable(bytes(row))
    assert found is None or isinstance(found, Order)


@pytest.mark.no_cover
@settings(max_examples=60)
@given(st.data())
def test_no_damage_to_a_row_stops_the_sweep_the_check_or_a_rebase(new_store: NewStore, data: st.DataObject) -> None:
    with new_store() as store:
        keep(store, "1", "2", "3")
        row = bytearray(store.state("2") or b"")
        for _ in range(data.draw(st.integers(1, 3))):
            row[data.draw(st.integers(0, len(row) - 1))] = data.draw(st.integers(0, 255))
        spoil(store, "UPDATE orders SET state = ? WHERE order_id = '2'", bytes(row))
        batch = Batch(store, PLAN)
        now = SUBMITTED[-1].at + DAY
        for _ in range(5):
            now += HOUR
            batch.sweep(now)
        stuck = [one for one in ("1", "3") if unpack(store.state(one) or b"").swept_at >= SUBMITTED[-1].at + DAY]
        assert stuck == ["1", "3"]
        found = check(store, PLAN)
        repair(store, PLAN, found)
        Batch(store, plan_of(BEFORE)).rebase()


def test_a_check_sees_one_moment_while_others_write(store: Store, open_store: Callable[[], Store]) -> None:
    keep(store, *map(str, range(10)))
    with open_store().snapshot() as still:
        keep(store, "later")
        assert sum(map(len, still.rows(3))) == 10
        assert still.totals()[names.IN_STATUS, "SUBMITTED"] == 10
    assert sum(map(len, store.rows(3))) == 11
    assert check(store, PLAN).right


def test_failures_by_error_code_are_proved_too(store: Store) -> None:
    failed = [
        event("PRICE_CALCULATED", START + place, "SUBMITTED", kind=FAILED, error_code=f"E{place}")
        for place in range(60)
    ]
    batch = Batch(store, PLAN)
    for one in failed:
        batch.ingest([Received("1", one)])
    batch.ingest([Received("2", event("X", START, kind=FAILED, error_code="no <label> of ours"))])
    counted = audit.totals(store, {names.FAILED_TRANSITIONS})
    assert len(counted) == 50 + 2
    assert counted[names.FAILED_TRANSITIONS, "PRICE_CALCULATED", "other"] == 10
    assert counted[names.FAILED_TRANSITIONS, "unknown", "other"] == 1
    assert check(store, PLAN).right
