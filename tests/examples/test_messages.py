"""What the services do with messages that come twice, or that nobody can understand."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from examples.order_pipeline.messages import OrderApproved, OrderPriced, OrderShipped, PricingRequested
from examples.order_pipeline.scenarios.models import ring, stl
from examples.order_pipeline.topology import DEAD_LETTER_QUEUE
from tests.examples.running import eventually

if TYPE_CHECKING:
    from examples.order_pipeline.messages import OrderMessage
    from tests.examples.running import Running

pytestmark = pytest.mark.broker


def closed_order(running: Running) -> str:
    order_id = running.create()
    running.upload(order_id).raise_for_status()
    running.submit(order_id).raise_for_status()
    running.wait_for(order_id, "CLOSED")
    return order_id


def test_a_message_that_comes_twice_changes_nothing(running: Running) -> None:
    order_id = closed_order(running)
    before = running.events(order_id)
    messages: list[OrderMessage] = [
        PricingRequested(order_id, revision=1, material="silver-925"),
        OrderPriced(order_id, price_cents=1),
        OrderApproved(order_id),
        OrderShipped(order_id),
    ]
    for message in messages:
        running.publish(message.routing_key, message.encode())
    closed_order(running)  # went through the same queues behind them
    assert running.events(order_id) == before
    assert running.pipeline.journal.read_text().count(order_id) == 1


@pytest.mark.parametrize(
    ("routing_key", "body"),
    [
        pytest.param("pricing", b"\xff", id="not JSON"),
        pytest.param("pricing", PricingRequested("nobody", 1, "silver-925").encode(), id="an order nobody knows"),
        pytest.param("priced", b'{"order_id": "a"}', id="no price"),
        pytest.param("approved", b'{"order_id": "../a"}', id="an id that is none"),
        pytest.param("shipped", OrderShipped("nobody").encode(), id="shipped but never approved"),
    ],
)
def test_a_message_that_can_never_succeed_goes_to_the_dead_letters(
    running: Running, routing_key: str, body: bytes
) -> None:
    found: list[bytes] = []

    def dead() -> bool:
        _, _, letter = running.channel.basic_get(DEAD_LETTER_QUEUE, auto_ack=True)
        found.extend([letter] if letter is not None else [])
        return bool(found)

    running.publish(routing_key, body)
    eventually(dead)
    assert found == [body]
    closed_order(running)  # and everybody still works


def test_an_order_survives_the_worker_that_priced_it(running: Running) -> None:
    order_id = running.create()
    running.upload(order_id, stl(ring(500, 600))).raise_for_status()
    running.submit(order_id).raise_for_status()
    eventually(lambda: running.channel.queue_declare("pricing.requests", passive=True).method.message_count == 0)
    os.kill(running.workers.pop().pid, signal.SIGKILL)
    assert running.statuses(order_id) == ["INITIATED", "FILE_UPLOADED", "SUBMITTED"]

    running.workers.extend(running.pipeline.start_pricing_workers(1))
    running.wait_for(order_id, "CLOSED")
    assert running.statuses(order_id).count("PRICE_CALCULATED") == 1
