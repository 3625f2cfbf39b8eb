"""What is exported of queues: what is known, where it is known from, and nothing else."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from otel_orders import names
from otel_orders.ledger import queues
from otel_orders.ledger.probe import PASSWORD, USER, management
from otel_orders.ledger.queues import QueueFact
from otel_orders.ledger.service import Ledger, open_store
from otel_orders.ledger.store import MessageNote
from tests.ledger.senders import ENV
from tests.ledger.strategies import LIFECYCLE, MINUTE, SECOND
from tests.ledger.test_metrics import samples, value
from tests.ledger.test_probe import answering
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otel_orders.ledger.store import Store

QUEUE = "pricing.requests"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path / 'ledger.db'}")


@pytest.fixture
def ledger(store: Store) -> Iterator[Ledger]:
    with closing(Ledger(store, LIFECYCLE, ENV)) as opened:
        yield opened


def seen(store: Store, at: int, **fields: Any) -> None:
    fact = QueueFact(fields.pop("queue", QUEUE), at, at + MINUTE, **fields)
    with store.transaction() as tx:
        tx.put(queues.FACTS + fact.queue, queues.encode(fact))


def test_what_a_probe_saw_is_exported(store: Store, ledger: Ledger) -> None:
    now = time.time_ns() // SECOND * SECOND
    seen(store, now, ready=31, unacked=2, consumers=0, head_at=now - MINUTE, active_at=now - 2 * MINUTE)
    assert value(ledger, names.QUEUE_MESSAGES, queue=QUEUE, state="ready") == 31
    assert value(ledger, names.QUEUE_MESSAGES, queue=QUEUE, state="unacked") == 2
    assert value(ledger, names.QUEUE_CONSUMERS, queue=QUEUE) == 0
    assert value(ledger, names.QUEUE_ACTIVE, queue=QUEUE) == now / 1e9 - 120
    assert value(ledger, names.QUEUE_OLDEST, queue=QUEUE, source="head") == now / 1e9 - 60


def test_the_records_of_messages_tell_the_oldest_where_the_broker_does_not(store: Store, ledger: Ledger) -> None:
    now = time.time_ns() // SECOND * SECOND
    with store.transaction() as tx:
        tx.published([MessageNote(QUEUE, "m-1", "A-1", now - MINUTE), MessageNote("stranger", "m-1", "A-1", now)])
    assert value(ledger, names.QUEUE_OLDEST, queue=QUEUE, source="ledger") == now / 1e9 - 60
    assert value(ledger, names.QUEUE_OLDEST, queue="stranger", source="ledger") is None


@pytest.mark.parametrize(
    "fields", [{"ready": 1, "at": -2 * MINUTE}, {"exists": False}, {}, {"ready": 1, "queue": "stranger"}]
)
def test_what_is_not_known_or_not_believed_any_more_is_absent(
    store: Store, ledger: Ledger, fields: dict[str, Any]
) -> None:
    seen(store, time.time_ns() + fields.pop("at", 0), **fields)
    of_queues = (names.QUEUE_OLDEST, names.QUEUE_MESSAGES, names.QUEUE_CONSUMERS, names.QUEUE_ACTIVE)
    assert not [name for name, _ in samples(ledger) if name in of_queues]


def test_without_a_probe_there_is_nothing_about_one(ledger: Ledger) -> None:
    assert value(ledger, names.PROBE_UP) is None


def test_the_probe_shows_how_it_does_itself(store: Store) -> None:
    body = b'{"messages_ready": 1, "messages_unacknowledged": 0}'
    with answering(200, body) as (url, asked):
        asked_at = management(url, {USER: "me", PASSWORD: "s3cret"}, every=1)
        with closing(Ledger(store, LIFECYCLE, ENV, rabbitmq=asked_at)) as ledger:
            wait_for(lambda: value(ledger, names.PROBE_UP) == 1)
            assert value(ledger, names.PROBE_SUCCEEDED) == pytest.approx(time.time(), abs=20)
            assert value(ledger, names.QUEUE_MESSAGES, queue="crm.priced", state="ready") == 1
    assert {path.partition("?")[0].rpartition("/")[2] for path in asked} == set(LIFECYCLE.queues)
