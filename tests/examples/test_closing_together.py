"""Messages that are worked on together, over a real RabbitMQ."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pika
import pytest
from opentelemetry import trace

from examples.order_pipeline import topology
from examples.order_pipeline.messages import OrderShipped
from examples.order_pipeline.messaging import Broker
from otel_orders.context import Order, bound, current_order
from otel_orders.instrumentation import aio_pika
from otel_orders.instrumentation import pika as blocking
from tests.sinks.memory import kept_spans

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.broker

QUEUE = "crm.shipped"
MANY = 5


@pytest.fixture
def _instrumented() -> Iterator[None]:
    blocking.instrument()
    aio_pika.instrument()
    yield
    aio_pika.uninstrument()
    blocking.uninstrument()


@pytest.mark.usefixtures("_instrumented")
def test_what_comes_while_a_batch_is_at_work_is_the_next_batch(vhost_url: str) -> None:
    topology.declare(vhost_url)
    worked: list[tuple[str, Order | None, int]] = []

    with kept_spans() as spans, pika.BlockingConnection(pika.URLParameters(vhost_url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()

        def ship(order_id: str) -> None:
            message = OrderShipped(order_id)
            with bound(Order(order_id)):
                channel.basic_publish("orders", message.routing_key, message.encode(), mandatory=True)

        async def consume() -> None:
            busy, arrived, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

            async def work(shipped: OrderShipped) -> None:
                if shipped.order_id == "first":
                    busy.set()
                    await arrived.wait()
                span = trace.get_current_span().get_span_context()
                worked.append((shipped.order_id, current_order(), span.span_id))
                if len(worked) == 1 + MANY:
                    done.set()

            async with Broker(vhost_url) as broker, asyncio.timeout(30):
                await broker.consume_together(QUEUE, OrderShipped, work)
                ship("first")
                await busy.wait()
                for number in range(MANY):
                    ship(str(number))
                while len(broker._working) < 1 + MANY:  # noqa: ASYNC110 - nobody tells what has arrived
                    await asyncio.sleep(0.01)
                arrived.set()
                await done.wait()

        asyncio.run(consume())
        assert channel.queue_declare(QUEUE, passive=True).method.message_count == 0

    finished = spans.get_finished_spans()
    alone, together = (span for span in finished if "messaging.batch.message_count" in (span.attributes or {}))
    assert worked[0] == ("first", Order("first"), alone.context.span_id)
    assert worked[1:] == [(str(n), Order(str(n)), together.context.span_id) for n in range(MANY)]
    sent = [span.context.span_id for span in finished if span.name == "send orders:shipped"]
    assert [link.context.span_id for link in (*alone.links, *together.links)] == sent
    assert alone.parent is together.parent is None
    outcomes = [
        (span.attributes or {})["outcome"] for span in finished if span.name == f"process orders:shipped:{QUEUE}"
    ]
    assert outcomes == ["ack"] * (1 + MANY)
