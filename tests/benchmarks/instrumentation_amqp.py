"""What instrumenting pika and aio-pika costs a message, published and consumed: ours beside the official one.

Against a real broker and with the clients' own I/O: what the official instrumentor of pika does to the channel below a
BlockingChannel is part of what it costs.  Three (with metrics, four) candidates take turns in every round: the bare
client, theirs, and ours inside an order; an overhead is what a candidate takes above the bare client of its round.
Only this process's CPU is counted, and spans go to a processor that drops them, the same for both.
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
from prometheus_client import CollectorRegistry, Counter, Histogram

from examples.order_pipeline.scenarios.broker import broker
from otel_orders.context import Order, bound
from otel_orders.instrumentation import aio_pika as our_aio_pika
from otel_orders.instrumentation import pika as our_pika
from otel_orders.instrumentation import spans
from otel_orders.instrumentation.amqp import DEFAULT
from tests.benchmarks.harness import Figure, benchmark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 24
MESSAGES = 150
"""Messages of one candidate in one round."""

ORDER = Order("0c9f2a4e-7c1d-4a55-9b1e-5b7b0a4711aa", "acme")
WITH_METRICS = 0.9
"""Budget where both write the same metrics."""


class Client(Protocol):
    """A client with an open connection."""

    def exchange_messages(self, number: int, sent: Callable[[float], None], got: Callable[[Any], None]) -> float:
        """Publish and consume *number* messages; returns the seconds of CPU that it took."""

    def close(self) -> None:
        """Close the connection."""


class Pika:
    def __init__(self, url: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(url))

    def exchange_messages(self, number: int, sent: Callable[[float], None], got: Callable[[Any], None]) -> float:
        channel = self._connection.channel()  # a new one: theirs instruments channels when they are opened
        queue = channel.queue_declare(f"otel-orders-{uuid.uuid4().hex}", exclusive=True).method.queue
        left = number

        def on_message(channel: Any, method: Any, properties: Any, _body: Any) -> None:
            nonlocal left
            began = time.perf_counter()
            channel.basic_ack(method.delivery_tag)
            got((began, properties.headers))
            left -= 1
            if not left:
                channel.stop_consuming()

        channel.basic_consume(queue, on_message)
        before = time.process_time()
        for _ in range(number):
            began = time.perf_counter()
            channel.basic_publish("", queue, b"payload", pika.BasicProperties(headers={"tenant": "7"}))
            sent(began)
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

    def exchange_messages(self, number: int, sent: Callable[[float], None], got: Callable[[Any], None]) -> float:
        return self._loop.run_until_complete(self._exchange(number, sent, got))

    async def _exchange(self, number: int, sent: Callable[[float], None], got: Callable[[Any], None]) -> float:
        channel = await self._connection.channel()
        queue = await channel.declare_queue(f"otel-orders-{uuid.uuid4().hex}", exclusive=True)
        left, done = number, asyncio.Event()

        async def on_message(message: Any) -> None:
            nonlocal left
            began = time.perf_counter()
            await message.ack()
            got((began, message.headers))
            left -= 1
            if not left:
                done.set()

        await queue.consume(on_message)
        before = time.process_time()
        for _ in range(number):
            began = time.perf_counter()
            message = aio_pika.Message(b"payload", headers={"tenant": "7"})
            await channel.default_exchange.publish(message, queue.name)
            sent(began)
        await done.wait()
        taken = time.process_time() - before
        await channel.close()
        return taken

    def close(self) -> None:
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


class _Dropped(SpanProcessor):
    """Where spans end; the same for all."""


class ByHand:
    """The metrics that ours writes, as a service would write them beside the official instrumentation."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        common = ["system", "operation", "destination", "host", "port", "error", "outcome"]
        self._labels = ("rabbitmq", "send", "orders", "localhost", "5672", "", "confirmed")
        self._sent = Counter("sent", "Sent.", common, registry=registry)
        self._send_time = Histogram("send", "Time to send.", common[:-1], registry=registry)
        self._consumed = Counter("consumed", "Consumed.", common[:-1], registry=registry)
        self._process_time = Histogram("process", "Time to process.", common, registry=registry)
        self._age = Histogram("age", "Age.", ["queue"], registry=registry)

    def sent(self, began: float) -> None:
        self._sent.labels(*self._labels).inc()
        self._send_time.labels(*self._labels[:-1]).observe(time.perf_counter() - began)

    def got(self, told: tuple[float, Any]) -> None:
        began, _headers = told
        self._consumed.labels(*self._labels[:-1]).inc()
        self._age.labels("orders").observe(time.time() - 1)
        self._process_time.labels(*self._labels).observe(time.perf_counter() - began)


def _nothing(_: object) -> None: ...


@contextmanager
def _traced() -> Iterator[TracerProvider]:
    """Have our spans made by a provider of the benchmark's own."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(_Dropped())
    before, spans.tracer = spans.tracer, provider.get_tracer("otel_orders")
    yield provider
    spans.tracer = before
    provider.shutdown()


def _overheads(client: Client, theirs: Any, ours: Any, *, metrics: bool) -> tuple[float, float, float, float]:
    """Return the overheads of ours and theirs, in seconds a message, the median of their ratios and its spread."""
    by_hand = ByHand()
    sent, got = (by_hand.sent, by_hand.got) if metrics else (_nothing, _nothing)
    with _traced() as provider:

        def bare() -> float:
            return client.exchange_messages(MESSAGES, _nothing, _nothing)

        def official() -> float:
            theirs.instrument(tracer_provider=provider)
            try:
                return client.exchange_messages(MESSAGES, sent, got)
            finally:
                theirs.uninstrument()

        def instrumented() -> float:
            ours.instrument(DEFAULT, CollectorRegistry() if metrics else None)
            try:
                with bound(ORDER):
                    return client.exchange_messages(MESSAGES, _nothing, _nothing)
            finally:
                ours.uninstrument()

        return _compared([bare, official, instrumented])


def _compared(candidates: list[Callable[[], float]]) -> tuple[float, float, float, float]:
    rows = []
    for index in range(ROUNDS + 1):
        gc.collect()
        turn = index % len(candidates)
        taken = {run: run() for run in candidates[turn:] + candidates[:turn]}
        rows.append([taken[run] / MESSAGES for run in candidates])
    rows = rows[1:]  # the first was warming up
    bare, official, instrumented = (statistics.median(column) for column in zip(*rows, strict=True))
    ratios = [(mine - plain) / (other - plain) for plain, other, mine in rows]
    low, _, high = statistics.quantiles(ratios, n=4)
    ratio = (instrumented - bare) / (official - bare)
    return instrumented - bare, official - bare, ratio, (high - low) / 2 / ratio


def _figure(name: str, budget: float, client: type[Pika | AioPika], *, metrics: bool = False) -> Figure:
    theirs, ours = (PikaInstrumentor(), our_pika) if client is Pika else (AioPikaInstrumentor(), our_aio_pika)
    with ExitStack() as stack:
        connected = client(stack.enter_context(broker(private=False)).amqp_url)
        stack.callback(connected.close)
        mine, peer, ratio, spread = _overheads(connected, theirs, ours, metrics=metrics)
    beside = "the official instrumentor and metrics by hand" if metrics else "the official instrumentor"
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
    return _figure(name, budget, Pika)


@benchmark("instrumentation/aio_pika", budget=1.1)
def instrumentation_aio_pika(name: str, budget: float) -> Figure:
    return _figure(name, budget, AioPika)


@benchmark("instrumentation/pika_with_metrics", budget=WITH_METRICS)
def instrumentation_pika_with_metrics(name: str, budget: float) -> Figure:
    return _figure(name, budget, Pika, metrics=True)


@benchmark("instrumentation/aio_pika_with_metrics", budget=WITH_METRICS)
def instrumentation_aio_pika_with_metrics(name: str, budget: float) -> Figure:
    return _figure(name, budget, AioPika, metrics=True)
