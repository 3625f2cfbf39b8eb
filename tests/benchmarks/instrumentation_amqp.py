"""What instrumenting pika and aio-pika costs a message, published and consumed: ours beside three peers.

Against a real broker and with the clients' own I/O: what the official instrumentor of pika does to the channel below a
BlockingChannel is part of what it costs.  The peers are the official instrumentor, the same with our metrics written by
hand, and the spans and headers that ours writes (an order among them, which the official one does not know) as a
careful service would write them with OpenTelemetry's API.  The candidates take turns in every round; an overhead is
what one takes above the bare client of its round.  Only this process's CPU is counted, and spans go to a processor that
drops them, the same for all.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
import uuid
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import aio_pika
import pika
from opentelemetry.instrumentation.aio_pika import AioPikaInstrumentor
from opentelemetry.instrumentation.pika import PikaInstrumentor
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from prometheus_client import CollectorRegistry

from examples.order_pipeline.scenarios.broker import broker
from otel_orders.context import Order, bound
from otel_orders.instrumentation import aio_pika as our_aio_pika
from otel_orders.instrumentation import pika as our_pika
from otel_orders.instrumentation import spans
from otel_orders.instrumentation.amqp import DEFAULT
from tests.benchmarks.amqp_by_hand import MetricsByHand, Nothing, SpansByHand
from tests.benchmarks.harness import Figure, benchmark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.benchmarks.amqp_by_hand import ByHand

ROUNDS = 24
MESSAGES = 150
"""Messages of one candidate in one round."""

ORDER = Order("0c9f2a4e-7c1d-4a55-9b1e-5b7b0a4711aa", "acme")

OFFICIAL = "the official instrumentor"
WITH_METRICS = "the official instrumentor and metrics by hand"
BY_HAND = "the same spans and headers by hand"


class Client(Protocol):
    """A client with an open connection."""

    def exchange_messages(self, number: int, by_hand: ByHand) -> float:
        """Publish and consume *number* messages; returns the seconds of CPU that it took."""

    def close(self) -> None:
        """Close the connection."""


class Pika:
    def __init__(self, url: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(url))

    def exchange_messages(self, number: int, by_hand: ByHand) -> float:
        channel = self._connection.channel()  # a new one: theirs instruments channels when they are opened
        queue = channel.queue_declare(f"otel-orders-{uuid.uuid4().hex}", exclusive=True).method.queue
        left = number

        def on_message(channel: Any, method: Any, properties: Any, _body: Any) -> None:
            nonlocal left
            with by_hand.processing(queue, properties.headers):
                channel.basic_ack(method.delivery_tag)
            left -= 1
            if not left:
                channel.stop_consuming()

        channel.basic_consume(queue, on_message)
        before = time.process_time()
        for _ in range(number):
            headers: dict[str, Any] = {"tenant": "7"}
            with by_hand.sending(queue, headers):
                channel.basic_publish("", queue, b"payload", pika.BasicProperties(headers=headers))
        channel.start_consuming()
        taken = time.process_time() - before
        channel.close()
        return taken

    def close(self) -> None:
        self._connection.close()


class AioPika:
    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection: Any = self._loop.run_until_complete(aio_pika.connect(url))

    def exchange_messages(self, number: int, by_hand: ByHand) -> float:
        return self._loop.run_until_complete(self._exchange(number, by_hand))

    async def _exchange(self, number: int, by_hand: ByHand) -> float:
        channel = await self._connection.channel()
        queue = await channel.declare_queue(f"otel-orders-{uuid.uuid4().hex}", exclusive=True)
        left, done = number, asyncio.Event()

        async def on_message(message: Any) -> None:
            nonlocal left
            with by_hand.processing(queue.name, message.headers):
                await message.ack()
            left -= 1
            if not left:
                done.set()

        await queue.consume(on_message)
        before = time.process_time()
        for _ in range(number):
            headers: dict[str, Any] = {"tenant": "7"}
            with by_hand.sending(queue.name, headers):
                await channel.default_exchange.publish(aio_pika.Message(b"payload", headers=headers), queue.name)
        await done.wait()
        taken = time.process_time() - before
        await channel.close()
        return taken

    def close(self) -> None:
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


class _Dropped(SpanProcessor):
    """Where spans end; the same for all."""


@contextmanager
def _traced() -> Iterator[TracerProvider]:
    """Have our spans made by a provider of the benchmark's own."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(_Dropped())
    before, spans.tracer = spans.tracer, provider.get_tracer("otel_orders")
    yield provider
    spans.tracer = before
    provider.shutdown()


def _overheads(client: Client, peer: str, theirs: Any, ours: Any) -> tuple[float, float, float, float]:
    """Return the overheads of ours and of *peer*, in seconds a message, the median of their ratios and its spread."""
    with _traced() as provider:

        def bare() -> float:
            return client.exchange_messages(MESSAGES, Nothing())

        def official() -> float:
            theirs.instrument(tracer_provider=provider)
            try:
                return client.exchange_messages(MESSAGES, MetricsByHand() if peer == WITH_METRICS else Nothing())
            finally:
                theirs.uninstrument()

        def by_hand() -> float:
            return client.exchange_messages(MESSAGES, SpansByHand(spans.tracer, ORDER))

        def instrumented() -> float:
            ours.instrument(DEFAULT, CollectorRegistry() if peer == WITH_METRICS else None)
            try:
                with bound(ORDER):
                    return client.exchange_messages(MESSAGES, Nothing())
            finally:
                ours.uninstrument()

        return _compared([bare, by_hand if peer == BY_HAND else official, instrumented])


def _compared(candidates: list[Callable[[], float]]) -> tuple[float, float, float, float]:
    rows = []
    for index in range(ROUNDS + 1):
        gc.collect()
        turn = index % len(candidates)
        taken = {run: run() for run in candidates[turn:] + candidates[:turn]}
        rows.append([taken[run] / MESSAGES for run in candidates])
    rows = rows[1:]  # the first was warming up
    bare, peer, instrumented = (statistics.median(column) for column in zip(*rows, strict=True))
    ratios = [(mine - plain) / (other - plain) for plain, other, mine in rows]
    low, _, high = statistics.quantiles(ratios, n=4)
    ratio = (instrumented - bare) / (peer - bare)
    return instrumented - bare, peer - bare, ratio, (high - low) / 2 / ratio


def _figure(name: str, budget: float, client: type[Pika | AioPika], beside: str) -> Figure:
    theirs, ours = (PikaInstrumentor(), our_pika) if client is Pika else (AioPikaInstrumentor(), our_aio_pika)
    with ExitStack() as stack:
        connected = client(stack.enter_context(broker(private=False)).amqp_url)
        stack.callback(connected.close)
        mine, peer, ratio, spread = _overheads(connected, beside, theirs, ours)
    return Figure(
        name=name,
        value=mine * 1e6,
        unit="us over the bare client",
        peer=peer * 1e6,
        ratio=ratio,
        budget=budget,
        holds=ratio <= budget,
        counts=f"CPU of this process, a message published and consumed; peer: {beside}",
        spread=spread,
    )


@benchmark("instrumentation/pika", budget=1.1)
def instrumentation_pika(name: str, budget: float) -> Figure:
    return _figure(name, budget, Pika, OFFICIAL)


@benchmark("instrumentation/pika/with_metrics", budget=0.9)
def instrumentation_pika_with_metrics(name: str, budget: float) -> Figure:
    return _figure(name, budget, Pika, WITH_METRICS)


@benchmark("instrumentation/pika/by_hand", budget=1.0)
def instrumentation_pika_by_hand(name: str, budget: float) -> Figure:
    return _figure(name, budget, Pika, BY_HAND)


@benchmark("instrumentation/aio_pika", budget=1.1)
def instrumentation_aio_pika(name: str, budget: float) -> Figure:
    return _figure(name, budget, AioPika, OFFICIAL)


@benchmark("instrumentation/aio_pika/with_metrics", budget=0.9)
def instrumentation_aio_pika_with_metrics(name: str, budget: float) -> Figure:
    return _figure(name, budget, AioPika, WITH_METRICS)


@benchmark("instrumentation/aio_pika/by_hand", budget=1.0)
def instrumentation_aio_pika_by_hand(name: str, budget: float) -> Figure:
    return _figure(name, budget, AioPika, BY_HAND)
