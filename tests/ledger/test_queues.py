"""What is concluded from a broker's answers and from the records of messages: nothing more than they say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_orders.ledger import queues
from otel_orders.ledger.queues import DELIVERY, HEAD, LATE, LEDGER, Oldest, QueueFact
from otel_orders.ledger.store import MessageNote
from tests.ledger.strategies import HOUR, MINUTE, SECOND, START

QUEUE = "pricing.requests"
NOTE = MessageNote(QUEUE, "m-1", "A-1", START - HOUR)


def fact(at: int = START, **fields: Any) -> QueueFact:
    return QueueFact(QUEUE, at, at + MINUTE, **fields)


def read(answer: dict[str, Any], at: int = START, before: QueueFact | None = None) -> QueueFact:
    return queues.seen(QUEUE, answer, at, at + MINUTE, before)


def test_what_a_classic_queue_tells_is_read() -> None:
    answer = {
        "messages_ready": 2,
        "messages_unacknowledged": 1,
        "consumers": 0,
        "head_message_timestamp": START // SECOND - 60,
        "idle_since": "2026-01-05T08:59:00.000+00:00",
        "arguments": {"x-message-ttl": 60_000},
        "effective_policy_definition": {"message-ttl": 30_000},
        "message_stats": {"publish": 3, "deliver_get": 1},
    }
    assert read(answer) == fact(
        ready=2, unacked=1, consumers=0, head_at=START - MINUTE, active_at=START - MINUTE, moved=4, ttl=30 * SECOND
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
TOLD = [name.partition(".")[0] for name in queues.COLUMNS]
PARTS = st.dictionaries(st.sampled_from(["publish", "ack", "x-message-ttl", "message-ttl"]), JSON)


@given(st.dictionaries(st.sampled_from(TOLD), JSON | PARTS))
def test_whatever_is_answered_is_read_without_harm(answer: dict[str, Any]) -> None:
    found = read(answer)
    assert queues.decode([queues.encode(found)], START) == {QUEUE: found}


@pytest.mark.parametrize("answer", [{}, {"messages_ready": -1, "consumers": True, "head_message_timestamp": "now"}])
def test_what_is_not_told_is_absent_and_not_0(answer: dict[str, Any]) -> None:
    assert read(answer) == fact()
    assert read(answer).held is None


def test_a_head_from_the_far_future_is_none() -> None:
    assert read({"head_message_timestamp": START // 1_000_000}).head_at is None  # milliseconds


def test_last_activity_is_seen_from_probe_to_probe_where_the_broker_does_not_tell_it() -> None:
    first = read({"message_stats": {"ack": 5}})
    moved = read({"message_stats": {"ack": 6}}, START + MINUTE, first)
    still = read({"message_stats": {"ack": 6}}, START + 2 * MINUTE, moved)
    assert [one.active_at for one in (first, moved, still)] == [None, START + MINUTE, START + MINUTE]


def test_a_fact_is_believed_for_its_time_only() -> None:
    kept = [queues.encode(fact())]
    assert QUEUE in queues.decode(kept, START + MINUTE)
    assert queues.decode(kept, START + MINUTE + 1) == {}


EMPTY = {"ready": 0, "unacked": 0}


@pytest.mark.parametrize(
    ("before", "now", "gone"),
    [
        (None, fact(**EMPTY), None),
        (fact(START - MINUTE, **EMPTY), fact(**EMPTY), START - MINUTE - LATE),
        (fact(START - MINUTE, exists=False), fact(exists=False), START - MINUTE - LATE),
        (fact(START - 1, **EMPTY), fact(**EMPTY), None),  # another replica, at the same time
        (fact(START - MINUTE, ready=1, unacked=0), fact(**EMPTY), None),
        (fact(START - MINUTE, **EMPTY), fact(ready=0, unacked=1), None),
        (fact(START - MINUTE), fact(), None),
        (fact(START - MINUTE, ready=9, unacked=0, ttl=HOUR), fact(ready=9, unacked=0, ttl=HOUR), START - MINUTE - HOUR),
        (fact(START - MINUTE, ready=9, unacked=1, ttl=HOUR), fact(ready=9, unacked=0, ttl=HOUR), None),
    ],
)
def test_a_message_is_gone_when_two_looks_say_so(before: QueueFact | None, now: QueueFact, gone: int | None) -> None:
    late = LATE if now.ttl else 0
    assert queues.gone_before(now, before) == (None if gone is None else gone - late)


def test_a_message_is_gone_too_when_much_younger_ones_were_delivered_unless_they_may_overtake() -> None:
    before, now = fact(START - MINUTE, ready=9, unacked=1), fact(ready=9, unacked=1)
    assert queues.gone_before(now, before, START) == START - queues.SETTLED_WITHIN
    assert queues.gone_before(fact(ready=9, unacked=1, priorities=True), before, START) is None
    assert queues.gone_before(fact(**EMPTY), fact(START - MINUTE, **EMPTY), START - HOUR) == START - MINUTE - LATE


def test_a_queue_with_priorities_is_known() -> None:
    assert read({"arguments": {"x-max-priority": 5}}).priorities
    assert not read({"arguments": {}}).priorities


@pytest.mark.parametrize(
    ("seen", "waiting", "delivered", "expected"),
    [
        (fact(ready=1, unacked=0, head_at=START - MINUTE), NOTE, None, Oldest(START - MINUTE, HEAD)),
        (fact(ready=1, unacked=0), NOTE, START - MINUTE, Oldest(NOTE.at, LEDGER)),
        (fact(ready=1, unacked=0), None, START - MINUTE, Oldest(START - MINUTE, DELIVERY)),
        (fact(ready=0, unacked=0), NOTE, START - MINUTE, None),
        (fact(exists=False), NOTE, START - MINUTE, None),
        (fact(ready=1, unacked=0), None, None, None),
        (fact(), None, START - MINUTE, None),  # the broker does not say whether anything waits
        (None, NOTE, None, Oldest(NOTE.at, LEDGER)),
        (None, None, START - MINUTE, None),
    ],
)
def test_the_oldest_message_is_known_from_the_best_source_or_not_at_all(
    seen: QueueFact | None, waiting: MessageNote | None, delivered: int | None, expected: Oldest | None
) -> None:
    assert queues.oldest(seen, waiting, delivered) == expected


@pytest.mark.parametrize(
    ("seen", "found", "words"),
    [
        (fact(ready=30, unacked=1, consumers=0), None, "holds 31 (1 delivered), no consumer"),
        (fact(ready=3, unacked=0, consumers=2), NOTE, "holds 3, 2 consumers, its oldest message waits for 1 h"),
        (fact(ready=0, unacked=0, consumers=1), None, "is empty, 1 consumer"),
        (fact(exists=False), None, "does not exist"),
        (fact(), None, "is there"),
    ],
)
def test_a_queue_is_told_in_words(seen: QueueFact, found: MessageNote | None, words: str) -> None:
    oldest = None if found is None else Oldest(found.at, LEDGER)
    assert queues.told(seen, oldest, START) == f"queue {QUEUE} {words}"
