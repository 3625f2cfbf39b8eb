"""What a batch notes beside its orders: messages that wait, stages that were left, heartbeats."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_orders import names
from otel_orders.ledger.passing import BEAT, DELIVERED, LEFT, PASSED
from otel_orders.ledger.reading import Reading
from otel_orders.ledger.store import Batch, MessageNote, Seen
from tests.ledger.senders import ENV, changed, walk
from tests.ledger.strategies import DAY, HOUR, LIFECYCLE, MINUTE, PLAN, SECOND
from tests.ledger.test_store import of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from otel_orders.ledger.store.sqlite import SqliteStore

QUEUE = "pricing.requests"
NOW = time.time_ns()


def now(order_id: str, *statuses: str, **fields: Any) -> dict[str, Any]:
    """Return a status change at NOW, which is not the time of day for long."""
    return changed(order_id, *statuses, occurred_at=NOW, **fields)


def published(message_id: str = "m-1", at: int = NOW, order_id: str = "A-1", **fields: Any) -> dict[str, Any]:
    record = changed(order_id, "", event_type=names.MESSAGE_PUBLISHED, occurred_at=at, event_id=f"p{message_id}{at}")
    return record | {"queue": QUEUE, "message_id": message_id, "outcome": "confirmed"} | fields


def settled(message_id: str = "m-1", at: int = NOW, **fields: Any) -> dict[str, Any]:
    record = published(message_id, at, event_type=names.MESSAGE_SETTLED, event_id=f"s{message_id}{at}", outcome="ack")
    return record | fields


def take(store: SqliteStore, *records: dict[str, Any], now: int = NOW) -> None:
    reading = Reading(LIFECYCLE, ENV, now)
    for record in records:
        reading.take(record)
    assert not reading.reasons
    Batch(store, PLAN).ingest(reading.received, seen=reading.seen, now=now)


def waiting(store: SqliteStore) -> MessageNote | None:
    return store.oldest_messages().get(QUEUE)


def test_a_published_message_waits_until_it_is_settled(store: SqliteStore) -> None:
    take(store, published())
    assert waiting(store) == MessageNote(QUEUE, "m-1", "A-1", NOW)
    take(store, settled(at=NOW + SECOND))
    assert waiting(store) is None


@pytest.mark.parametrize("outcome", ["ack", "nack", "reject", "no-ack"])
def test_however_it_is_settled_it_waits_no_more(store: SqliteStore, outcome: str) -> None:
    take(store, published(), settled(outcome=outcome))
    assert waiting(store) is None


@pytest.mark.parametrize("outcome", ["requeue", "unsettled"])
def test_one_that_was_given_back_still_waits(store: SqliteStore, outcome: str) -> None:
    take(store, published(), settled(outcome=outcome))
    assert waiting(store)


@pytest.mark.parametrize("outcome", ["returned", "nacked", "error"])
def test_one_that_the_broker_did_not_take_does_not_wait(store: SqliteStore, outcome: str) -> None:
    take(store, published(outcome=outcome))
    assert waiting(store) is None


@pytest.mark.no_cover
@given(st.randoms(use_true_random=False), st.sets(st.integers(0, 5)))
def test_any_order_of_arrival_and_any_repetition_ends_in_the_same(
    new_store: Callable[[], AbstractContextManager[SqliteStore]], shuffled: random.Random, done: set[int]
) -> None:
    records = [published(f"m-{place}", NOW + place) for place in range(6)]
    records += [settled(f"m-{place}", NOW + MINUTE + place) for place in done]
    came = [*records, *shuffled.choices(records, k=4)]
    shuffled.shuffle(came)
    with new_store() as store:
        for record in came:
            take(store, record)
        left = sorted(set(range(6)) - done)
        assert (waiting(store) or MessageNote("", "", "", 0)).message_id == (f"m-{left[0]}" if left else "")


def test_a_repetition_brings_no_message_back_that_was_forgotten(store: SqliteStore) -> None:
    take(store, published())
    with store.transaction() as tx:
        tx.forget_messages(QUEUE, NOW + 1)
    take(store, published())
    assert waiting(store) is None


def test_an_order_that_is_full_does_not_keep_its_messages_waiting(store: SqliteStore) -> None:
    take(store, *(published(f"m-{place}", NOW + place) for place in range(600)))
    take(store, *(settled(f"m-{place}", NOW + SECOND + place) for place in range(600)))
    assert waiting(store) is None


def test_no_sender_can_fill_the_table_with_queues_of_its_own(store: SqliteStore) -> None:
    for queue in ("stranger", "crm.priced"):  # which is not tracked
        take(store, published(queue=queue), settled(queue=queue, message_id="m-2", published_at=NOW))
    assert not store.oldest_messages()
    assert not store.moments()


def test_a_message_without_an_id_is_told_in_the_story_and_does_not_wait(store: SqliteStore) -> None:
    take(store, published(""), settled("", published_at=NOW - HOUR))
    assert waiting(store) is None
    assert store.moments() == {(DELIVERED, QUEUE): NOW - HOUR}


def test_ids_that_look_like_personal_data_stay_apart(store: SqliteStore) -> None:
    take(store, published("4111 1111 1111 1111"), published("4222 2222 2222 2"), settled("4111 1111 1111 1111"))
    assert waiting(store) == MessageNote(QUEUE, "4222 2222 2222 2", "A-1", NOW)


@pytest.mark.parametrize("told", [None, "soon", -1, 0, pytest.param(NOW + DAY, id="tomorrow"), 2.5])
def test_the_last_delivered_message_tells_when_it_was_published_if_it_knows(store: SqliteStore, told: object) -> None:
    take(store, settled("m-1", published_at=NOW - MINUTE), settled("m-2", published_at=told))
    assert store.moments() == {(DELIVERED, QUEUE): NOW - MINUTE}


def test_a_status_that_an_order_leaves_is_noted_with_who_was_overtaken(store: SqliteStore) -> None:
    take(store, *walk("A-1", "INITIATED", "FILE_UPLOADED", start=NOW - 20 * MINUTE, pause=MINUTE))
    take(store, changed("A-1", "SUBMITTED", "FILE_UPLOADED", occurred_at=NOW - 15 * MINUTE))
    assert store.moments() == {
        (LEFT, "INITIATED"): NOW - 19 * MINUTE,
        (PASSED, "INITIATED"): NOW - 20 * MINUTE,
        (LEFT, "FILE_UPLOADED"): NOW - 15 * MINUTE,
        (PASSED, "FILE_UPLOADED"): NOW - 19 * MINUTE,
    }


def test_an_order_that_does_not_say_what_it_leaves_leaves_where_it_was(store: SqliteStore) -> None:
    take(store, changed("A-1", occurred_at=NOW - DAY))
    take(store, changed("A-1", "FILE_UPLOADED", occurred_at=NOW - HOUR))
    assert store.moments() == {(LEFT, "INITIATED"): NOW - HOUR, (PASSED, "INITIATED"): NOW - DAY}


@pytest.mark.parametrize("skew", [-9 * MINUTE, -SECOND, 0, SECOND, 9 * MINUTE])
def test_the_clock_of_a_service_does_not_say_when_a_status_was_left(store: SqliteStore, skew: int) -> None:
    take(store, changed("A-1", "PRICE_CALCULATED", "SUBMITTED", occurred_at=NOW + skew))
    assert store.moments() == {(LEFT, "SUBMITTED"): NOW}


def test_what_moves_nothing_and_what_comes_twice_leaves_no_status(store: SqliteStore) -> None:
    failed = now("A-1", "PRICE_CALCULATED", "SUBMITTED", event_type=names.TRANSITION_FAILED, error_code="x")
    take(store, failed, published(), now("A-1", "MYSTERY", "RIDDLE"), now("A-1", "SUBMITTED", "SUBMITTED"))
    assert store.moments() == {}
    moved = now("A-2", "PRICE_CALCULATED", "SUBMITTED", event_id="1")
    take(store, moved)
    take(store, moved, now=NOW + MINUTE)
    assert store.moments() == {(LEFT, "SUBMITTED"): NOW}


@pytest.mark.parametrize("skew", [-9 * MINUTE, 0, 9 * MINUTE])
def test_a_heartbeat_is_heard_when_it_comes(store: SqliteStore, skew: int) -> None:
    for instance in ("a", "b"):
        beat = changed("", event_type=names.HEARTBEAT, service="mes-api", occurred_at=NOW + skew)
        take(store, beat | {"instance": instance, "role": "web", "lifecycle_hash": "abc"})
    take(store, now("A-1", service="shop-api"))  # no heartbeat
    assert store.moments() == {(BEAT, "mes-api", "web"): NOW}


def test_a_heartbeat_that_was_kept_for_an_hour_says_nothing_about_now(store: SqliteStore) -> None:
    Batch(store, PLAN).ingest([], seen=[Seen("mes-api", "a", "", NOW - HOUR, "")], now=NOW)
    assert store.moments() == {(BEAT, "mes-api", ""): NOW - HOUR}


def test_a_batch_that_fails_notes_nothing(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("otel_orders.ledger.store.sqlite.SqliteTransaction.put", fail)
    monkeypatch.setattr("otel_orders.ledger.store.postgres_transaction.PostgresTransaction.put", fail)
    with pytest.raises(RuntimeError):
        Batch(store, PLAN).ingest(of("1", []), seen=[Seen("mes-api", "a", "", NOW, "")], notes={"x": "y"})
    assert store.moments() == {}
