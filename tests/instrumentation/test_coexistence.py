"""With the official instrumentors at work too, in either order: one span for each message, completed by ours."""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import aio_pika
import pika
import pytest
from opentelemetry.instrumentation.aio_pika import AioPikaInstrumentor
from opentelemetry.instrumentation.pika import PikaInstrumentor
from opentelemetry.trace import SpanKind

from otel_orders import names
from otel_orders.context import Order, bound, current_order
from otel_orders.instrumentation import aio_pika as our_aio_pika
from otel_orders.instrumentation import pika as our_pika

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.instrumentation.conftest import Spans

pytestmark = pytest.mark.broker

ORDER = Order("4711", "acme")
either_order = pytest.mark.parametrize("first", ["theirs", "ours"])


@contextmanager
def both(theirs: Any, ours: Any, first: str, spans: Spans) -> Iterator[None]:
    with ExitStack() as stack:

        def start_theirs() -> None:
            theirs.instrument(tracer_provider=spans.provider)
            stack.callback(theirs.uninstrument)

        def start_ours() -> None:
            ours.instrument()
            stack.callback(ours.uninstrument)

        for start in (start_theirs, start_ours) if first == "theirs" else (start_ours, start_theirs):
            start()
        yield


def assert_one_span_each_with_all_that_we_know(spans: Spans) -> None:
    (sending,) = [span for span in spans.finished if span.kind is SpanKind.PRODUCER]
    (processing,) = [span for span in spans.finished if span.kind is SpanKind.CONSUMER]
    assert len(spans.finished) == 3
    for span, outcome in ((sending, "confirmed"), (processing, "ack")):
        attributes = span.attributes or {}
        assert attributes[names.ORDER_ID] == "4711"
        assert attributes[names.OUTCOME] == outcome
        assert attributes["messaging.destination.name"]
        assert attributes["server.address"]
    assert names.MESSAGE_AGE_SECONDS in (processing.attributes or {})
    assert spans.one("work").parent == processing.context
    assert processing.parent is not None
    assert processing.parent.span_id == sending.context.span_id


def pika_by_callback(channel: Any, queue: str, work: Callable[[], None]) -> None:
    def on_message(channel: Any, method: Any, *_: Any) -> None:
        channel.stop_consuming()
        work()
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(queue, on_message)
    channel.start_consuming()


def pika_by_generator(channel: Any, queue: str, work: Callable[[], None]) -> None:
    for method, _, _ in channel.consume(queue):
        work()
        channel.basic_ack(method.delivery_tag)
        break
    channel.cancel()


def pika_by_get(channel: Any, queue: str, work: Callable[[], None]) -> None:
    method, _properties, _ = channel.basic_get(queue)
    work()
    channel.basic_ack(method.delivery_tag)
    channel.basic_get(queue)


@either_order
@pytest.mark.parametrize("consume", [pika_by_callback, pika_by_generator, pika_by_get])
def test_pika_has_one_span_for_each_message(
    first: str, consume: Callable[..., None], amqp_url: str, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Order | None] = []

    def work() -> None:
        seen.append(current_order())
        spans.tracer.start_span("work").end()

    caplog.set_level(logging.WARNING)
    with (
        both(PikaInstrumentor(), our_pika, first, spans),
        pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection,
    ):
        channel = connection.channel()
        channel.confirm_delivery()
        queue = channel.queue_declare("", exclusive=True).method.queue
        with bound(ORDER):
            channel.basic_publish("", queue, b"payload")
        consume(channel, queue, work)
    assert seen == [ORDER]
    assert_one_span_each_with_all_that_we_know(spans)
    assert caplog.records == []


async def aio_pika_by_callback(queue: Any, work: Callable[[], None]) -> None:
    done = asyncio.Event()

    async def on_message(message: Any) -> None:
        work()
        await message.ack()
        asyncio.get_running_loop().call_soon(done.set)

    await queue.consume(on_message)
    await asyncio.wait_for(done.wait(), 20)


async def aio_pika_by_iterator(queue: Any, work: Callable[[], None]) -> None:
    async with queue.iterator() as messages:
        async for message in messages:
            work()
            await message.ack()
            break


async def aio_pika_by_get(queue: Any, work: Callable[[], None]) -> None:
    message = await queue.get()
    work()
    await message.ack()


@either_order
@pytest.mark.parametrize("consume", [aio_pika_by_callback, aio_pika_by_iterator, aio_pika_by_get])
@pytest.mark.anyio
async def test_aio_pika_has_one_span_for_each_message(
    first: str, consume: Callable[..., Awaitable[None]], amqp_url: str, spans: Spans
) -> None:
    seen: list[Order | None] = []

    def work() -> None:
        seen.append(current_order())
        spans.tracer.start_span("work").end()

    with both(AioPikaInstrumentor(), our_aio_pika, first, spans):
        async with await aio_pika.connect(amqp_url) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(exclusive=True)
            with bound(ORDER):
                await channel.default_exchange.publish(aio_pika.Message(b"payload"), queue.name)
            await consume(queue, work)
    assert seen == [ORDER]
    assert_one_span_each_with_all_that_we_know(spans)


@either_order
@pytest.mark.parametrize(
    ("theirs", "ours", "methods"),
    [
        (PikaInstrumentor, our_pika, [(pika.adapters.blocking_connection.BlockingChannel, "basic_publish")]),
        (AioPikaInstrumentor, our_aio_pika, [(aio_pika.Exchange, "publish"), (aio_pika.Queue, "consume")]),
    ],
)
def test_the_originals_are_back_when_the_one_that_came_last_left_first(
    first: str, theirs: Any, ours: Any, methods: list[tuple[type, str]], spans: Spans
) -> None:
    originals = [vars(owner)[name] for owner, name in methods]
    with both(theirs(), ours, first, spans):
        pass
    assert all(vars(owner)[name] is original for (owner, name), original in zip(methods, originals, strict=True))
