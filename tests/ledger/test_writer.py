"""The writer thread: group commit, whatever goes wrong in it, overload, and the sweep."""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from otel_orders import names
from otel_orders.errors import StoreUnavailableError
from otel_orders.ledger import apply
from otel_orders.ledger import writer as module
from otel_orders.ledger.apply import ACCEPTED, BROKEN, DUPLICATE
from otel_orders.ledger.reading import Reading
from otel_orders.ledger.store import Batch
from otel_orders.ledger.writer import OverloadedError, Writer
from tests.ledger.senders import ENV, SECOND, changed
from tests.ledger.stores import held, impatient, raw
from tests.ledger.strategies import DAY, LIFECYCLE, PLAN
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from otel_orders.ledger.kept import Kept, Order
    from otel_orders.ledger.store import Received, Store

PATIENCE = 60.0
"""Seconds to wait for an answer at most."""


@contextmanager
def writing(store: Store, on_event: Callable[[Received, str], None] | None = None) -> Iterator[Writer]:
    with closing(Writer(Batch(store, PLAN), on_event)) as writer:
        yield writer


def reading(*records: dict[str, Any]) -> Reading:
    found = Reading(LIFECYCLE, ENV, time.time_ns())
    for record in records:
        found.take(record)
    return found


def count(store: Store, result: str) -> int:
    return store.totals().get((names.LEDGER_EVENTS, result), 0)


def test_senders_that_are_committed_together_get_each_its_own_results(store: Store) -> None:
    first = changed("A-1")
    with writing(store) as writer:
        with held(store):  # all of them wait for the same commit
            answers = [
                writer.submit(reading(first)),
                writer.submit(reading()),
                writer.submit(reading(first, changed("B-2", "MYSTERY"), changed("C-3", "SHIPPED", "SUBMITTED"))),
                writer.submit(reading(changed("D-4", env="prod"))),
            ]
        results = [answer.result(PATIENCE) for answer in answers]
    assert results == [[ACCEPTED], [], [DUPLICATE, "unknown_status", "skipped"], []]
    assert count(store, "rejected") == 1


def test_what_was_answered_is_on_disk(store: Store) -> None:
    with writing(store) as writer:
        writer.submit(reading(changed("A-1"))).result(PATIENCE)
        with raw(store) as other:
            assert other.execute("SELECT count(*) FROM orders").fetchall() == [(1,)]


def test_closing_writes_what_waits_and_takes_no_more(store: Store) -> None:
    with writing(store) as writer:
        with held(store):
            answers = [writer.submit(reading(changed(f"A-{place}"))) for place in range(50)]
            closer = threading.Thread(target=writer.close)
            closer.start()
        closer.join(PATIENCE)
        assert [answer.result(0) for answer in answers] == [[ACCEPTED]] * 50
        with pytest.raises(OverloadedError, match="closing"):
            writer.submit(reading())
    assert not writer.alive


def test_notes_are_kept_with_the_events_they_belong_to(store: Store) -> None:
    with writing(store) as writer:
        writer.submit(reading(), {"follow:x": "12"}).result(PATIENCE)
    assert store.get("follow:x") == "12"


def test_a_store_that_does_not_answer_keeps_nothing_says_so_and_is_tried_again(
    store: Store,
) -> None:
    with writing(store) as writer:
        impatient(store)
        record = changed("A-1")
        with held(store), pytest.raises(StoreUnavailableError, match="lock"):
            writer.submit(reading(record)).result(PATIENCE)
        assert writer.submit(reading(record)).result(PATIENCE) == [ACCEPTED]
        assert writer.waiting == 0


def test_an_event_that_fails_unforeseen_costs_no_neighbour(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = apply.take

    def fails(order: Order, events: Sequence[Kept], *more: Any) -> list[str]:
        if any(event.service == "bad" for event in events):
            raise ZeroDivisionError
        return take(order, events, *more)

    monkeypatch.setattr(apply, "take", fails)
    with writing(store) as writer:
        with held(store):
            answers = [
                writer.submit(reading(changed("before"))),
                writer.submit(
                    reading(*(changed(f"A-{place}") for place in range(20)), changed("bad", service="bad")),
                    {"note": "1"},
                ),
                writer.submit(reading(changed("after"))),
            ]
        before, mixed, after = (answer.result(PATIENCE) for answer in answers)
        assert (before, after) == ([ACCEPTED], [ACCEPTED])
        assert mixed == [ACCEPTED] * 20 + [BROKEN]
        assert writer.waiting == 0
    assert store.get("note") == "1"
    assert (count(store, ACCEPTED), count(store, "rejected")) == (22, 1)
    assert "tried apart" in caplog.text


def test_a_sign_of_life_that_fails_unforeseen_holds_up_no_event(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = Batch.ingest

    def fails(batch: Batch, received: Sequence[Received], **more: Any) -> list[str]:
        if more.get("seen"):
            raise ZeroDivisionError
        return ingest(batch, received, **more)

    monkeypatch.setattr(Batch, "ingest", fails)
    with writing(store) as writer:
        assert writer.submit(reading(changed("A-1"), changed("B-2")), {"note": "1"}).result(PATIENCE) == [ACCEPTED] * 2
    assert store.get("note") == "1"
    assert "signs of life" in caplog.text


@pytest.mark.parametrize(
    ("fault", "reason"), [(StoreUnavailableError("no room", "full"), "full"), (ZeroDivisionError(), None)]
)
def test_what_fails_again_when_it_is_tried_apart_is_to_be_sent_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, fault: Exception, reason: str | None
) -> None:
    """Events of the first sender are kept apart, and then nothing can be written: nobody may believe otherwise."""
    ingest = Batch.ingest

    def fails(batch: Batch, received: Sequence[Received], **more: Any) -> list[str]:
        if "seen" in more and received:
            raise ZeroDivisionError  # together
        if not received:
            raise fault
        return ingest(batch, received, **more)

    monkeypatch.setattr(Batch, "ingest", fails)
    with writing(store) as writer:
        with pytest.raises(StoreUnavailableError):
            writer.submit(reading(changed("A-1"))).result(PATIENCE)
        assert writer.waiting == 0
        assert (writer.outage.errors["full"] > 0) == (reason == "full")
        monkeypatch.setattr(Batch, "ingest", ingest)
        assert writer.submit(reading(changed("A-1"))).result(PATIENCE) == [ACCEPTED]


def test_a_sender_that_went_away_costs_no_neighbour(store: Store) -> None:
    with writing(store) as writer:
        with held(store):
            writer.submit(reading(changed("A-1")))
            gone, stays = writer.submit(reading(changed("B-2"))), writer.submit(reading(changed("C-3")))
            gone.cancel()
        assert stays.result(PATIENCE) == [ACCEPTED]
        assert writer.alive
        assert writer.waiting == 0


def test_a_listener_that_fails_is_left_out_and_costs_nothing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    def closed_terminal(received: Received, result: str) -> None:
        shown.append((received.order_id, result))
        raise BrokenPipeError

    shown: list[tuple[str, str]] = []
    with writing(store, closed_terminal) as writer:
        for order_id in ("A-1", "B-2"):
            assert writer.submit(reading(changed(order_id))).result(PATIENCE) == [ACCEPTED]
    assert shown == [("A-1", ACCEPTED)]
    assert "not shown any more" in caplog.text


def test_beyond_what_may_wait_senders_are_told_to_come_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 10)
    with writing(store) as writer:
        with held(store):
            big = writer.submit(reading(*(changed(f"A-{place}") for place in range(30))))  # alone, it may be larger
            with pytest.raises(OverloadedError, match="30 events wait"):
                writer.submit(reading(changed("B-2")))
            with pytest.raises(OverloadedError):
                writer.submit(reading())
        assert big.result(PATIENCE) == [ACCEPTED] * 30
        assert writer.submit(reading(changed("B-2"))).result(PATIENCE) == [ACCEPTED]


def test_an_order_is_found_stuck_soon_after_its_deadline(store: Store) -> None:
    almost = time.time_ns() - DAY + SECOND // 2  # INITIATED is stuck after a day
    with writing(store) as writer:
        writer.submit(reading(changed("A-1", occurred_at=almost))).result(PATIENCE)
        started = time.monotonic()
        wait_for(lambda: store.totals().get((names.STUCK, "INITIATED")))
        assert time.monotonic() - started < 5


def test_more_stuck_orders_than_one_sweep_takes_are_all_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEPT_AT_ONCE", 3)
    with writing(store) as writer:
        old = time.time_ns() - 2 * DAY
        writer.submit(reading(*(changed(f"A-{place}", occurred_at=old) for place in range(20)))).result(PATIENCE)
        wait_for(lambda: store.totals().get((names.STUCK, "INITIATED")) == 20)


def test_a_sweep_that_fails_is_tried_again(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with writing(store) as writer:
        impatient(store)
        with held(store):
            wait_for(lambda: writer.outage.errors["locked"] > 1)
        before = writer.swept_at
        wait_for(lambda: writer.swept_at > before)
        assert writer.alive
    assert caplog.text.count("nothing can be kept now; senders are told to try again: the store") == 1
    assert "Traceback" not in caplog.text  # a store that is held is nothing unforeseen


def test_a_sweep_that_fails_unforeseen_is_said_once_with_its_cause_and_tried_again(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps: list[int] = []

    def fails(_batch: Batch, now: int, _limit: int) -> int:
        sweeps.append(now)
        raise ZeroDivisionError

    monkeypatch.setattr(module, "SWEEP_EVERY", 0.01)
    sweep = Batch.sweep
    monkeypatch.setattr(Batch, "sweep", fails)
    with writing(store) as writer:
        wait_for(lambda: len(sweeps) > 2)
        monkeypatch.setattr(Batch, "sweep", sweep)
        before = writer.swept_at
        wait_for(lambda: writer.swept_at > before)
    assert caplog.text.count("sweep failed") == caplog.text.count("Traceback") == 1


def test_while_another_replica_sweeps_this_one_does_not(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEEP_EVERY", 0.01)
    monkeypatch.setattr(Batch, "swept_elsewhere", lambda _: 7 * SECOND)
    monkeypatch.setattr(Batch, "sweep", lambda *_: pytest.fail("it swept"))
    with writing(store) as writer:
        wait_for(lambda: writer.swept_at == 7.0)
        assert writer.submit(reading(changed("A-1"))).result(PATIENCE) == [ACCEPTED]


def test_an_outage_is_over_when_something_can_be_written_again_though_nothing_comes(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with writing(store) as writer:
        impatient(store)
        with held(store):
            with pytest.raises(StoreUnavailableError, match="lock"):
                writer.submit(reading(changed("A-1"))).result(PATIENCE)
            assert "lock" in (writer.outage.why or "")
        wait_for(lambda: writer.outage.why is None)
    assert "the store is written again, after" in caplog.text


def test_what_was_refused_is_said_though_nothing_comes_after_it(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with writing(store) as writer:
        for _ in range(2):
            writer.submit(reading(changed("A-1", env="other"))).result(PATIENCE)
        wait_for(lambda: "refused: " in caplog.text)
        writer.submit(reading(changed(""))).result(PATIENCE)
        assert "no_order_id" not in caplog.text
    said = [record.message for record in caplog.records if "refused: " in record.message]
    assert sum(int(line.split("refused: ")[1].split()[0]) for line in said if "other_env" in line) <= 2
    assert "1 no_order_id" in caplog.text  # at the end at the latest


def test_many_threads_may_submit(store: Store) -> None:
    answers: list[list[str]] = []
    shared = changed("shared")

    def send(sender: int) -> None:
        answers.extend(
            writer.submit(reading(changed(f"{sender}-{place}"), shared)).result(PATIENCE) for place in range(20)
        )

    with writing(store) as writer:
        threads = [threading.Thread(target=send, args=[sender]) for sender in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert [own for own, _ in answers] == [ACCEPTED] * 160
    assert sorted(result for _, result in answers) == [ACCEPTED] + [DUPLICATE] * 159
    assert (count(store, ACCEPTED), count(store, DUPLICATE)) == (161, 159)
