"""What the official instrumentors of pika and aio-pika leave out, and ours does: the same scenario with each of them.

Each test is a line of the README's table.  Where one fails for "theirs", they have caught up: take the line out.
"""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import aio_pika
import pika
import pytest
from opentelemetry.instrumentation.aio_pika import AioPikaInstrumentor
from opentelemetry.instrumentation.pika import PikaInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import SpanKind

from otel_orders.context import Order, bound, current_order
from otel_orders.instrumentation import aio_pika as our_aio_pika
from otel_orders.instrumentation import pika as our_pika
from otel_orders.instrumentation.amqp import Propagation
from tests.instrumentation.test_pika_async import Application

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.sdk.trace import ReadableSpan

    from tests.instrumentation.conftest import Spans

pytestmark = pytest.mark.broker

ORDER = Order("4711", "acme")
whose = pytest.mark.parametrize("whose", ["theirs", "ours"])


@contextmanager
def instrumented(whose: str, client: str, spans: Spans, **options: Any) -> Iterator[None]:
    if whose == "ours":
        ours = our_pika if client == "pika" else our_aio_pika
        ours.instrument(**options)
        yield
        ours.uninstrument()
    else:
        theirs = PikaInstrumentor() if client == "pika" else AioPikaInstrumentor()
        theirs.instrument(tracer_provider=spans.provider)
        yield
        theirs.uninstrument()


def consumed(spans: Spans) -> list[ReadableSpan]:
    return [span for span in spans.finished if span.kind is SpanKind.CONSUMER]


def produced(spans: Spans) -> list[ReadableSpan]:
    return [span for span in spans.finished if span.kind is SpanKind.PRODUCER]


def with_pika(url: str, whose: str, spans: Spans, use: Callable[[Any, str], object], **options: Any) -> None:
    """Publish a message of the order and let *use* consume it."""
    with (
        instrumented(whose, "pika", spans, **options),
        pika.BlockingConnection(pika.URLParameters(url)) as connection,
    ):
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        with bound(ORDER):
            channel.basic_publish("", queue, b"payload")
        use(channel, queue)


def with_aio_pika(url: str, whose: str, spans: Spans, use: Callable[[Any], Any], **options: Any) -> str:
    async def scenario() -> str:
        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(exclusive=True)
            with bound(ORDER):
                await channel.default_exchange.publish(aio_pika.Message(b"payload"), queue.name)
            await use(queue)
            return queue.name

    with instrumented(whose, "aio_pika", spans, **options):
        return asyncio.run(scenario())


def by_callback(channel: Any, queue: str) -> None:
    def on_message(channel: Any, method: Any, *_: Any) -> None:
        channel.stop_consuming()
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(queue, on_message)
    channel.start_consuming()


async def by_async_callback(queue: Any) -> None:
    done = asyncio.Event()

    async def on_message(message: Any) -> None:
        await message.ack()
        asyncio.get_running_loop().call_soon(done.set)

    await queue.consume(on_message)
    await asyncio.wait_for(done.wait(), 20)


@whose
def test_pika_publishing_is_one_span(whose: str, amqp_url: str, spans: Spans) -> None:
    with_pika(amqp_url, whose, spans, by_callback)
    assert len(produced(spans)) == (1 if whose == "ours" else 2)


@whose
def test_the_body_of_a_pika_loop_runs_inside_the_span(whose: str, amqp_url: str, spans: Spans) -> None:
    def loop(channel: Any, queue: str) -> None:
        for _ in channel.consume(queue, auto_ack=True):
            spans.tracer.start_span("work").end()
            break
        channel.cancel()

    contextvars.copy_context().run(with_pika, amqp_url, whose, spans, loop)  # theirs leaves its span behind
    (processing,), work = consumed(spans), spans.one("work")
    inside = (processing.end_time or 0) >= (work.end_time or 0)
    assert inside is (whose == "ours")


@whose
def test_a_pika_get_has_a_span(whose: str, amqp_url: str, spans: Spans) -> None:
    def get(channel: Any, queue: str) -> None:
        channel.basic_get(queue, auto_ack=True)
        channel.basic_get(queue)

    with_pika(amqp_url, whose, spans, get)
    assert len(consumed(spans)) == (1 if whose == "ours" else 0)


@whose
def test_a_callback_of_pikas_asynchronous_adapters_has_a_span(whose: str, amqp_url: str, spans: Spans) -> None:
    def work(app: Application) -> None:
        app.publish()
        app.receive("consume", lambda *_: app.done(), auto_ack=True)

    with instrumented(whose, "pika", spans):
        Application(pika.SelectConnection, amqp_url, work)
    assert len(consumed(spans)) == (1 if whose == "ours" else 0)


@whose
def test_the_body_of_an_aio_pika_loop_is_in_the_messages_trace(whose: str, amqp_url: str, spans: Spans) -> None:
    """opentelemetry-python-contrib issues 1993 and 2892."""

    async def loop(queue: Any) -> None:
        async with queue.iterator(no_ack=True) as messages:
            async for _ in messages:
                spans.tracer.start_span("work").end()
                break

    with_aio_pika(amqp_url, whose, spans, loop)
    (sending,) = produced(spans)
    assert (spans.one("work").context.trace_id == sending.context.trace_id) is (whose == "ours")


@whose
def test_an_aio_pika_get_has_a_span(whose: str, amqp_url: str, spans: Spans) -> None:
    async def get(queue: Any) -> None:
        await (await queue.get()).ack()

    with_aio_pika(amqp_url, whose, spans, get)
    assert len(consumed(spans)) == (1 if whose == "ours" else 0)


@whose
def test_the_default_exchange_has_a_destination(whose: str, amqp_url: str, spans: Spans) -> None:
    """opentelemetry-python-contrib issue 1026."""
    queue = with_aio_pika(amqp_url, whose, spans, by_async_callback)
    (sending,) = produced(spans)
    attributes = sending.attributes or {}
    if whose == "ours":
        assert attributes["messaging.destination.name"] == queue
    else:
        assert sending.name == f",{queue} send"
        assert attributes["messaging.destination"] == f",{queue}"


@whose
@pytest.mark.parametrize("client", ["pika", "aio_pika"])
def test_a_span_tells_how_its_message_ended_in_todays_conventions(
    whose: str, client: str, amqp_url: str, spans: Spans
) -> None:
    if client == "pika":
        with_pika(amqp_url, whose, spans, by_callback)
    else:
        with_aio_pika(amqp_url, whose, spans, by_async_callback)
    told = {"outcome", "messaging.operation.name", "server.address", "order_id"}
    for span in (*produced(spans), *consumed(spans)):
        assert told & set(span.attributes or {}) == (told if whose == "ours" else set()) or (
            whose == "theirs" and told & set(span.attributes or {}) == {"order_id"}  # from our span processor
        )


@whose
@pytest.mark.parametrize("client", ["pika", "aio_pika"])
def test_the_order_of_a_message_is_restored_in_its_callback(
    whose: str, client: str, amqp_url: str, spans: Spans
) -> None:
    seen: list[Order | None] = []

    def use(channel: Any, queue: str) -> None:
        def on_message(channel: Any, *_: Any) -> None:
            channel.stop_consuming()
            seen.append(current_order())

        channel.basic_consume(queue, on_message, auto_ack=True)
        channel.start_consuming()

    async def use_async(queue: Any) -> None:
        done = asyncio.Event()

        async def on_message(_: Any) -> None:
            seen.append(current_order())
            done.set()

        await queue.consume(on_message, no_ack=True)
        await asyncio.wait_for(done.wait(), 20)

    if client == "pika":
        with_pika(amqp_url, whose, spans, use)
    else:
        with_aio_pika(amqp_url, whose, spans, use_async)
    assert seen == [ORDER if whose == "ours" else None]


@whose
def test_a_message_that_waited_long_is_linked_and_does_not_stretch_its_producers_trace(
    whose: str, amqp_url: str, spans: Spans
) -> None:
    options = {"propagation": Propagation(young_for=0)} if whose == "ours" else {}
    with_pika(amqp_url, whose, spans, by_callback, **options)
    (processing,) = consumed(spans)
    assert (processing.parent is None and len(processing.links) == 1) is (whose == "ours")


@whose
def test_the_applications_own_properties_stay_as_they_are(whose: str, amqp_url: str, spans: Spans) -> None:
    own = pika.BasicProperties()

    def publish(channel: Any, queue: str) -> None:
        channel.basic_publish("", queue, b"payload", own)

    with_pika(amqp_url, whose, spans, publish)
    assert (own.headers is None) is (whose == "ours")


@whose
def test_a_header_of_an_odd_type_keeps_no_message_from_its_callback(whose: str, amqp_url: str, spans: Spans) -> None:
    handled: list[bytes] = []

    def use(channel: Any, queue: str) -> None:
        channel.queue_purge(queue)
        with suppress_instrumentation():
            channel.basic_publish("", queue, b"odd", pika.BasicProperties(headers={"traceparent": 7, "baggage": 7}))

        def on_message(channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
            handled.append(body)
            channel.stop_consuming()

        channel.basic_consume(queue, on_message, auto_ack=True)
        try:
            channel.start_consuming()
        except (TypeError, AttributeError):
            assert whose == "theirs"

    with_pika(amqp_url, whose, spans, use)
    assert handled == ([b"odd"] if whose == "ours" else [])
