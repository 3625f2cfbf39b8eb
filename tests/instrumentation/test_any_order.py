"""Ours and the official instrumentors switched on and off in any order, again and again, for each client.

While ours is on there is one span for each request or message, and it has what we know; when both are off, every
method is the very same object as before.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aio_pika
import aiormq
import httpx
import pika
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry.instrumentation.aio_pika import AioPikaInstrumentor
from opentelemetry.instrumentation.aio_pika.callback_decorator import CallbackDecorator
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.pika import PikaInstrumentor
from opentelemetry.instrumentation.pika.utils import ReadyMessagesDequeProxy
from opentelemetry.trace import SpanKind
from pika.adapters import blocking_connection

from otel_orders import names
from otel_orders.context import Order, bound
from otel_orders.instrumentation import aio_pika as our_aio_pika
from otel_orders.instrumentation import httpx as our_httpx
from otel_orders.instrumentation import pika as our_pika
from tests.instrumentation.test_coexistence import aio_pika_by_callback, pika_by_callback
from tests.instrumentation.test_httpx import echo, fetch, fetch_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.instrumentation.conftest import Spans

ORDER = Order("4711", "acme")

switchings = st.lists(st.sampled_from(["ours on", "ours off", "theirs on", "theirs off"]), max_size=10)
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
many = settings(few, max_examples=100)

Methods = dict[tuple[type, str], Any]


def methods_of(*owners: type) -> Methods:
    return {(owner, name): found for owner in owners for name, found in vars(owner).items() if callable(found)}


def is_as_before(before: Methods) -> bool:
    return all(vars(owner)[name] is found for (owner, name), found in before.items())


def switched(steps: list[str], ours: Any, theirs: Any, spans: Spans, check: Callable[[], None]) -> None:
    """Take *steps*, *check* after each while ours is on, and switch both off."""
    on = False
    try:
        for step in steps:
            if step == "theirs on":
                theirs.instrument(tracer_provider=spans.provider)
            elif step == "ours on":
                ours.instrument()
            else:
                (theirs if step == "theirs off" else ours).uninstrument()
            on = step == "ours on" or (on and step != "ours off")
            spans.forget()
            if on:
                check()
    finally:
        theirs.uninstrument()
        ours.uninstrument()


def one_of(spans: Spans, kind: SpanKind) -> None:
    (span,) = [span for span in spans.finished if span.kind is kind]
    assert (span.attributes or {}).get(names.ORDER_ID) == "4711"


@pytest.fixture
def url(serve: Callable[[Any], str]) -> str:
    return serve(echo)


HTTPX = (httpx.Client, httpx.AsyncClient, httpx.HTTPTransport, httpx.AsyncHTTPTransport)


@many
@given(switchings)
@example(["theirs on", "ours on", "theirs off"])
@example(["ours on", "theirs on", "ours off", "theirs off", "ours on"])
def test_httpx(url: str, spans: Spans, steps: list[str]) -> None:
    def check() -> None:
        for get in (fetch, fetch_async):
            with bound(ORDER):
                told = get("GET", url).json()
            one_of(spans, SpanKind.CLIENT)
            assert told["baggage"] == "order_id=4711,partner_id=acme"
            spans.forget()

    before = methods_of(*HTTPX)
    switched(steps, our_httpx, HTTPXClientInstrumentor(), spans, check)
    assert is_as_before(before)


PIKA = (
    blocking_connection.BlockingChannel,
    blocking_connection.BlockingConnection,
    blocking_connection._QueueConsumerGeneratorInfo,
    pika.channel.Channel,
    pika.connection.Connection,
    ReadyMessagesDequeProxy,
)


@pytest.mark.broker
@few
@given(switchings)
@example(["theirs on", "ours on", "theirs off"])
def test_pika(amqp_url: str, spans: Spans, steps: list[str]) -> None:
    def check() -> None:
        with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
            channel = connection.channel()
            queue = channel.queue_declare("", exclusive=True).method.queue
            with bound(ORDER):
                channel.basic_publish("", queue, b"payload")
            pika_by_callback(channel, queue, lambda: None)
        one_of(spans, SpanKind.PRODUCER)
        one_of(spans, SpanKind.CONSUMER)

    before = methods_of(*PIKA)
    switched(steps, our_pika, PikaInstrumentor(), spans, check)
    assert is_as_before(before)


AIO_PIKA = (aio_pika.Exchange, aio_pika.Queue, aio_pika.queue.QueueIterator, aiormq.Channel, CallbackDecorator)


@pytest.mark.broker
@few
@given(switchings)
@example(["theirs on", "ours on", "theirs off"])
def test_aio_pika(amqp_url: str, spans: Spans, steps: list[str]) -> None:
    async def a_message() -> None:
        async with await aio_pika.connect(amqp_url) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(exclusive=True)
            with bound(ORDER):
                await channel.default_exchange.publish(aio_pika.Message(b"payload"), queue.name)
            await aio_pika_by_callback(queue, lambda: None)

    def check() -> None:
        asyncio.run(a_message())
        one_of(spans, SpanKind.PRODUCER)
        one_of(spans, SpanKind.CONSUMER)

    before = methods_of(*AIO_PIKA)
    switched(steps, our_aio_pika, AioPikaInstrumentor(), spans, check)
    assert is_as_before(before)
