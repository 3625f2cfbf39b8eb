"""What has ended is removed in time, and cannot come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from otel_orders import names
from otel_orders.ledger import apply, model
from otel_orders.ledger.apply import LATE, REMOVED_AFTER
from otel_orders.ledger.check import check
from otel_orders.ledger.kept import FAILED, MESSAGE, unpack
from otel_orders.ledger.reading import Reading
from otel_orders.ledger.removals import Import
from otel_orders.ledger.store import Batch, MessageNote, Received, Seen
from tests.ledger import audit
from tests.ledger.senders import ENV, changed
from tests.ledger.strategies import DAY, HOUR, LIFECYCLE, MINUTE, START, event, path
from tests.ledger.test_store import swept

if TYPE_CHECKING:
    from otel_orders.ledger.kept import Kept
    from otel_orders.ledger.store.sqlite import SqliteStore

PLAN = model.Plan(LIFECYCLE)
WAY = (
    *("INITIATED", "FILE_UPLOADED", "SUBMITTED", "PRICE_CALCULATED", "MANUFACTURING_APPROVED"),
    *("MANUFACTURING_STARTED", "MANUFACTURING_COMPLETED", "PACKAGING", "SHIPPED", "CLOSED"),
)
CLOSED = path(*WAY)
ENDED_AT = CLOSED[-1].at
GONE_AT = ENDED_AT + 90 * DAY + REMOVED_AFTER


def keep(store: SqliteStore, order_id: str, events: list[Kept]) -> list[str]:
    return Batch(store, PLAN).ingest([Received(order_id, one) for one in events])


def test_a_closed_order_is_removed_after_90_days_and_the_totals_stay(store: SqliteStore) -> None:
    batch = Batch(store, PLAN)
    keep(store, "closed", CLOSED)
    keep(store, "open", CLOSED[:-1])
    swept(batch, GONE_AT - 1)
    assert set(audit.orders(store)) == {"closed", "open"}
    counted = audit.counters(store)
    swept(batch, GONE_AT)
    assert set(audit.orders(store)) == {"open"}
    assert audit.counters(store) == counted | {(names.REMOVED, "retention"): 1}
    assert check(store, PLAN).right
    swept(batch, GONE_AT + 900 * DAY)
    assert set(audit.orders(store)) == {"open"}


def test_an_event_after_the_end_keeps_the_order_for_longer(store: SqliteStore) -> None:
    """Else the same event, coming twice, could make the order anew when it is gone."""
    batch = Batch(store, PLAN)
    keep(store, "1", CLOSED)
    keep(store, "1", [event("acked", ENDED_AT + 5 * DAY, kind=MESSAGE)])
    swept(batch, GONE_AT)
    assert set(audit.orders(store)) == {"1"}
    swept(batch, GONE_AT + 5 * DAY)
    assert set(audit.orders(store)) == set()
    assert check(store, PLAN).right


def test_no_duplicate_can_bring_a_removed_order_back(store: SqliteStore) -> None:
    batch = Batch(store, PLAN)
    keep(store, "1", CLOSED)
    swept(batch, GONE_AT)
    reading = Reading(LIFECYCLE, ENV, GONE_AT, PLAN.retention)
    for one in CLOSED:
        reading.take(changed("1", one.to, one.left, occurred_at=one.at))
    assert (reading.received, reading.rejected[LATE]) == ([], len(CLOSED))


def test_what_waited_for_the_disk_for_an_hour_meets_its_order(store: SqliteStore) -> None:
    keep(store, "1", CLOSED)
    read_at = ENDED_AT + 90 * DAY
    reading = Reading(LIFECYCLE, ENV, read_at, PLAN.retention)
    reading.take(changed("1", CLOSED[-1].to, CLOSED[-1].left, occurred_at=ENDED_AT, event_id=CLOSED[-1].id.hex()))
    swept(Batch(store, PLAN), read_at + HOUR - 1)
    assert Batch(store, PLAN).ingest(reading.received) == [apply.DUPLICATE]


def test_failures_are_forgotten_after_30_days_and_stay_counted(store: SqliteStore) -> None:
    batch = Batch(store, PLAN)
    failed = [
        event("PRICE_CALCULATED", START + place * DAY, "SUBMITTED", kind=FAILED, error_code="NoMesh")
        for place in range(3)
    ]
    keep(store, "1", CLOSED[:3])
    keep(store, "1", failed)
    series = (names.FAILED_TRANSITIONS, "PRICE_CALCULATED", "NoMesh")
    for place in range(3):
        swept(batch, START + (30 + place) * DAY + REMOVED_AFTER)
        left = [one for one in unpack(store.state("1") or b"").events if one.kind == FAILED]
        assert left == failed[place + 1 :]
        assert store.totals()[series] == 3
        assert check(store, PLAN).right
    assert unpack(store.state("1") or b"").fold.status == "SUBMITTED"


def test_a_failure_that_was_forgotten_is_late_when_it_comes_again() -> None:
    now = START + 40 * DAY
    reading = Reading(LIFECYCLE, ENV, now, PLAN.retention)
    for age in (29, 31):
        failed = changed("1", occurred_at=now - age * DAY, event_type=names.TRANSITION_FAILED, error_code="NoMesh")
        reading.take(failed)
        reading.take(changed("1", occurred_at=now - age * DAY))
    assert (len(reading.received), reading.rejected[LATE]) == (3, 1)


def test_an_order_of_which_only_failures_came_is_removed_too(store: SqliteStore) -> None:
    batch = Batch(store, PLAN)
    keep(store, "1", [event("INITIATED", START, kind=FAILED, error_code="E")])
    keep(store, "2", [event("acked", START, kind=MESSAGE)])
    swept(batch, START + 30 * DAY + REMOVED_AFTER)
    assert set(audit.orders(store)) == {"2"}
    swept(batch, START + 90 * DAY + REMOVED_AFTER)
    assert audit.orders(store) == {}
    assert check(store, PLAN).right


def test_a_retention_of_ones_own_is_kept_to(store: SqliteStore) -> None:
    plan = model.Plan(LIFECYCLE, model.Retention(orders=7 * DAY, errors=DAY))
    keep(store, "1", CLOSED)
    Batch(store, plan).rebase()  # what a ledger does that finds another retention
    swept(Batch(store, plan), ENDED_AT + 7 * DAY + REMOVED_AFTER)
    assert audit.orders(store) == {}


def test_instances_that_are_gone_are_forgotten_and_their_service_is_not(store: SqliteStore) -> None:
    old = [Seen("mes-api", instance, "web", START, "h") for instance in ("", "pod-1")]
    new = Seen("mes-api", "pod-2", "web", START + 8 * DAY, "h")
    batch = Batch(store, PLAN)
    batch.ingest([], seen=[*old, new])
    batch.sweep(START + 8 * DAY)
    assert sorted(store.seen()) == sorted([old[0], new])


@pytest.mark.parametrize("queue", ["pricing.requests", "a queue that has left the lifecycle", "\0"], ids=repr)
def test_messages_of_any_queue_are_forgotten_in_the_end(store: SqliteStore, queue: str) -> None:
    with store.transaction() as tx:
        for place, at in enumerate((START, START + 50 * DAY)):
            tx.published([MessageNote(queue, str(place), "1", at)])
            tx.settled([MessageNote(queue, f"settled-{place}", "1", at)])
    Batch(store, PLAN).sweep(START + 90 * DAY + MINUTE)
    left = [message.message_id for some in store.messages(100) for message in some]
    assert left == ["1", "settled-1"]


@pytest.mark.parametrize("queues", [[], ["a"], ["a", "b"]])
def test_what_came_to_other_queues_is_forgotten_by_its_age(store: SqliteStore, queues: list[str]) -> None:
    with store.transaction() as tx:
        tx.published([MessageNote(queue, str(at), "1", at) for queue in ("a", "b", "c") for at in (1, 2)])
        tx.forget_elsewhere(queues, 2)
    left = {(message.queue, message.published_at) for some in store.messages(100) for message in some}
    assert left == {(queue, at) for queue in ("a", "b", "c") for at in (1, 2) if at == 2 or queue in queues}


@pytest.mark.parametrize("kind", ["sqlite"], scope="session")
def test_the_file_stays_as_large_as_what_is_kept_in_it(store: SqliteStore) -> None:
    """Space of removed orders is used again: ten times as many orders make no larger file."""
    batch, sizes = Batch(store, PLAN), []
    for generation in range(10):
        start = START + generation * 100 * DAY
        way = path(*WAY, start=start)
        for some in range(0, 1000, 250):
            batch.ingest([Received(f"{generation}-{some + n}", one) for n in range(250) for one in way])
        sizes.append(store._read("PRAGMA page_count")[0][0])
        swept(batch, start + 99 * DAY)
    assert audit.orders(store) == {}
    assert max(sizes) <= 1.1 * sizes[0]


def test_what_was_imported_is_kept_for_as_long_from_then_on(store: SqliteStore) -> None:
    """Else last year would be gone before anybody has seen it."""
    batch, imported_at = Batch(store, PLAN), ENDED_AT + 300 * DAY
    batch.ingest([Received("1", one) for one in CLOSED], imported=Import(imported_at))
    swept(batch, imported_at + 90 * DAY + REMOVED_AFTER - 1)
    assert set(audit.orders(store)) == {"1"}
    assert check(store, PLAN).right
    again = batch.ingest([Received("1", one) for one in CLOSED], imported=Import(imported_at + 80 * DAY))
    assert set(again) == {apply.DUPLICATE}  # no news, and so no reason to keep it for longer
    swept(batch, imported_at + 90 * DAY + REMOVED_AFTER)
    assert audit.orders(store) == {}
    assert check(store, PLAN).right


def test_an_import_outlives_another_retention_and_another_lifecycle(store: SqliteStore) -> None:
    imported_at = ENDED_AT + 300 * DAY
    Batch(store, PLAN).ingest([Received("1", one) for one in CLOSED], imported=Import(imported_at))
    short = Batch(store, model.Plan(LIFECYCLE, model.Retention(orders=7 * DAY, errors=DAY)))
    short.rebase()
    swept(short, imported_at + 7 * DAY)
    assert set(audit.orders(store)) == {"1"}
    swept(short, imported_at + 7 * DAY + REMOVED_AFTER)
    assert audit.orders(store) == {}
