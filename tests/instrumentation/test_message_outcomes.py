"""How a message's publishing and its settling ended, and what came before: on spans and in metrics, by both clients."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import aio_pika
import pika
import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import StatusCode
from prometheus_client import CollectorRegistry, Histogram

from otel_orders import instrumentation, names
from otel_orders.instrumentation.semconv import OPT_IN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

    from tests.instrumentation.conftest import Faults, Spans

pytestmark = pytest.mark.broker

FULL = {"x-max-length": 1, "x-overflow": "reject-publish"}
"""A queue whose broker refuses a second message."""

CLIENTS = pytest.mark.parametrize("client", ["pika", "aio_pika"])
OUTCOMES = ["ack", "nack", "reject", "requeue", "no-ack", "unsettled"]


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    """Where the metrics are, while both clients are instrumented."""
    metrics = CollectorRegistry()
    instrumentation.instrument_all(registry=metrics)
    yield metrics
    instrumentation.uninstrument_all()


def samples(registry: CollectorRegistry, name: str) -> list[tuple[dict[str, str], float]]:
    found = (sample for metric in registry.collect() for sample in metric.samples)
    return [(sample.labels, sample.value) for sample in found if sample.name == name and sample.value]


def outcomes(registry: CollectorRegistry, name: str) -> dict[str, float]:
    """Return the count of each outcome; no message is counted under two."""
    return {labels[names.OUTCOME]: value for labels, value in samples(registry, name)}


def told(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {}).get(name)


class Pika:
    """What these tests do with a broker, through pika."""

    def __init__(self, url: str, *, confirms: bool = True) -> None:
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        if confirms:
            self.channel.confirm_delivery()

    def declare(self, name: str = "", **arguments: Any) -> str:
        options = {"durable": True} if name else {"exclusive": True}
        return str(self.channel.queue_declare(name, arguments=arguments, **options).method.queue)

    def publish(self, queue: str, headers: dict[str, Any] | None = None, timestamp: int | None = None) -> None:
        properties = pika.BasicProperties(headers=headers, timestamp=timestamp)
        self.channel.basic_publish("", queue, b"payload", properties, mandatory=True)

    def consume(self, queue: str, outcome: str = "ack", *, late: bool = False) -> None:
        tags: list[int] = []

        def on_message(channel: Any, method: Any, *_: Any) -> None:
            channel.stop_consuming()
            tags.append(method.delivery_tag)
            if not late:
                self.settle(method.delivery_tag, outcome)

        self.channel.basic_consume(queue, on_message, auto_ack=outcome == "no-ack")
        self.channel.start_consuming()
        if late:
            self.settle(tags[0], outcome)

    def settle(self, tag: int, outcome: str) -> None:
        match outcome:
            case "ack":
                self.channel.basic_ack(tag)
            case "nack" | "requeue":
                self.channel.basic_nack(tag, requeue=outcome == "requeue")
            case "reject":
                self.channel.basic_reject(tag, requeue=False)

    def drop(self, queue: str) -> None:
        self.channel.queue_delete(queue)

    def close(self) -> None:
        self.connection.close()


class AioPika:
    """The same through aio-pika, in a loop of its own."""

    def __init__(self, url: str, *, confirms: bool = True) -> None:
        self.loop = asyncio.Runner()
        self.loop.run(self._open(url, confirms=confirms))

    async def _open(self, url: str, *, confirms: bool) -> None:
        self.connection: Any = await aio_pika.connect(url)
        self.channel: Any = await self.connection.channel(publisher_confirms=confirms)

    def declare(self, name: str = "", **arguments: Any) -> str:
        options: dict[str, Any] = {"name": name, "durable": True} if name else {"exclusive": True}
        queue = self.loop.run(self.channel.declare_queue(arguments=arguments, **options))
        return str(queue.name)

    def publish(self, queue: str, headers: dict[str, Any] | None = None, timestamp: int | None = None) -> None:
        message = aio_pika.Message(b"payload", headers=headers, timestamp=timestamp)
        self.loop.run(self.channel.default_exchange.publish(message, queue))

    def consume(self, queue: str, outcome: str = "ack", *, late: bool = False) -> None:
        self.loop.run(self._consume(queue, outcome, late=late))

    async def _consume(self, name: str, outcome: str, *, late: bool) -> None:
        got: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def on_message(message: Any) -> None:
            await queue.cancel(message.consumer_tag)  # first: it must not get again what it requeues
            if not late:
                await self.settle(message, outcome)
            got.set_result(message)

        queue = await self.channel.get_queue(name, ensure=False)
        await queue.consume(on_message, no_ack=outcome == "no-ack")
        message = await asyncio.wait_for(got, 20)
        if late:
            await asyncio.sleep(0)  # the callback's task ends
            await self.settle(message, outcome)

    @staticmethod
    async def settle(message: Any, outcome: str) -> None:
        match outcome:
            case "ack":
                await message.ack()
            case "nack" | "requeue":
                await message.nack(requeue=outcome == "requeue")
            case "reject":
                await message.reject(requeue=False)

    def drop(self, queue: str) -> None:
        self.loop.run(self._drop(queue))

    async def _drop(self, name: str) -> None:
        await (await self.channel.get_queue(name, ensure=False)).delete(if_unused=False, if_empty=False)

    def close(self) -> None:
        self.loop.run(self.connection.close())
        self.loop.close()


def through(client: str, url: str, **options: Any) -> Any:
    return {"pika": Pika, "aio_pika": AioPika}[client](url, **options)


@CLIENTS
@pytest.mark.parametrize("outcome", ["confirmed", "unconfirmed", "returned", "nacked", "error"])
def test_how_publishing_ended_is_on_the_span_and_counted(
    client: str, outcome: str, amqp_url: str, spans: Spans, registry: CollectorRegistry
) -> None:
    messages = through(client, amqp_url, confirms=outcome != "unconfirmed")
    queue = messages.declare(**(FULL if outcome == "nacked" else {}))
    if outcome == "nacked":
        messages.publish(queue)
    if outcome == "error":
        messages.connection.close() if client == "pika" else messages.loop.run(messages.channel.close())
    with suppress(pika.exceptions.AMQPError, aio_pika.exceptions.AMQPError, RuntimeError):
        messages.publish(f"{queue}-nowhere" if outcome == "returned" else queue)
    if outcome != "error" or client != "pika":
        messages.close()

    span = spans.of("send")[-1]
    failed = outcome in {"returned", "nacked", "error"}
    assert told(span, names.OUTCOME) == outcome
    assert (span.status.status_code is StatusCode.ERROR) is failed
    counted = samples(registry, names.SENT_MESSAGES)
    assert {labels[names.OUTCOME]: value for labels, value in counted}[outcome] == 1
    assert {labels[names.OUTCOME]: bool(labels["error_type"]) for labels, _ in counted}[outcome] is failed
    assert sum(value for _, value in samples(registry, f"{names.MESSAGING_OPERATION_DURATION}_count")) == len(
        spans.of("send")
    )


@CLIENTS
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_how_a_message_was_settled_is_on_its_span_and_counted_also_when_it_happens_later(
    client: str, outcome: str, *, late: bool, amqp_url: str, spans: Spans, registry: CollectorRegistry
) -> None:
    messages = through(client, amqp_url)
    queue = messages.declare()
    messages.publish(queue)
    messages.consume(queue, outcome, late=late)
    if outcome == "unsettled":
        assert spans.of("process") == []
    messages.close()
    assert told(spans.one("process"), names.OUTCOME) == outcome
    assert outcomes(registry, f"{names.MESSAGING_PROCESS_DURATION}_count") == {outcome: 1}
    assert [value for _, value in samples(registry, names.CONSUMED_MESSAGES)] == [1]


def test_one_acknowledgement_settles_all_up_to_its_tag_and_each_span_ended_with_its_own_work(
    amqp_url: str, spans: Spans, registry: CollectorRegistry
) -> None:
    messages = Pika(amqp_url)
    queue = messages.declare()
    for _ in range(3):
        messages.publish(queue)
    tags = []
    for method, _, _ in messages.channel.consume(queue):
        tags.append(method.delivery_tag)
        if len(tags) == 3:
            break
    messages.channel.basic_ack(tags[1], multiple=True)
    assert [told(span, names.OUTCOME) for span in spans.of("process")] == ["ack", "ack"]
    messages.close()
    ended = spans.of("process")
    assert [told(span, names.OUTCOME) for span in ended] == ["ack", "ack", "unsettled"]
    assert all((span.end_time or 0) <= (later.start_time or 0) for span, later in pairwise(ended))
    assert outcomes(registry, f"{names.MESSAGING_PROCESS_DURATION}_count") == {"ack": 2, "unsettled": 1}


@CLIENTS
def test_a_lost_connection_leaves_its_messages_unsettled(
    client: str, amqp_url: str, spans: Spans, registry: CollectorRegistry
) -> None:
    messages = through(client, amqp_url)
    queue = messages.declare()
    messages.publish(queue)
    messages.consume(queue, "unsettled")
    if client == "pika":
        messages.connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)
        with pytest.raises(pika.exceptions.AMQPError):
            messages.connection.sleep(20)
    else:
        messages.loop.run(messages.connection.transport.connection.close(ConnectionResetError()))
        messages.loop.close()
    assert told(spans.one("process"), names.OUTCOME) == "unsettled"
    assert outcomes(registry, f"{names.MESSAGING_PROCESS_DURATION}_count") == {"unsettled": 1}


@CLIENTS
def test_a_redelivered_message_says_so(client: str, amqp_url: str, spans: Spans, registry: CollectorRegistry) -> None:
    messages = through(client, amqp_url)
    queue = messages.declare()
    messages.publish(queue)
    messages.consume(queue, "requeue")
    messages.consume(queue)
    messages.close()
    first, second = spans.of("process")
    assert told(first, names.REDELIVERED) is told(first, names.RETRY_ATTEMPT) is None
    assert told(second, names.REDELIVERED) is True
    assert told(second, names.RETRY_ATTEMPT) == 1
    assert samples(registry, names.MESSAGES_REDELIVERED) == [({"queue": "(anonymous)"}, 1)]


@CLIENTS
def test_a_quorum_queue_tells_how_often_it_has_delivered(
    client: str, amqp_url: str, spans: Spans, registry: CollectorRegistry
) -> None:
    messages = through(client, amqp_url)
    queue = messages.declare(f"otel-orders-{uuid.uuid4().hex}", **{"x-queue-type": "quorum"})
    try:
        messages.publish(queue)
        for outcome in ("requeue", "requeue", "ack"):
            messages.consume(queue, outcome)
    finally:
        messages.drop(queue)
        messages.close()
    assert [told(span, names.DELIVERY_COUNT) for span in spans.of("process")] == [None, 1, 2]
    assert [told(span, names.RETRY_ATTEMPT) for span in spans.of("process")] == [None, 1, 2]
    assert samples(registry, names.MESSAGES_REDELIVERED) == [({"queue": queue}, 2)]


@CLIENTS
@pytest.mark.usefixtures("registry")
def test_a_dead_lettered_message_tells_its_way(client: str, amqp_url: str, spans: Spans) -> None:
    messages = through(client, amqp_url)
    parking = messages.declare()
    queue = messages.declare(**{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": parking})
    messages.publish(queue)
    messages.consume(queue, "reject")
    messages.consume(parking)
    messages.close()
    rejected, parked = spans.of("process")
    assert told(rejected, names.DEAD_LETTERED) is None
    assert told(parked, names.DEAD_LETTERED) == (f"{queue} rejected x1",)
    assert told(parked, names.RETRY_ATTEMPT) is None  # it is in this queue for the first time


@CLIENTS
@pytest.mark.parametrize("age", [0, 100])
@pytest.mark.parametrize("source", ["header", "timestamp"])
def test_a_messages_age_at_delivery_comes_from_its_header_or_its_timestamp(
    client: str, age: int, *, source: str, amqp_url: str, spans: Spans, registry: CollectorRegistry
) -> None:
    messages = through(client, amqp_url)
    queue = messages.declare()
    published = time.time_ns() - age * 1_000_000_000
    if source == "header":
        messages.publish(queue, {names.PUBLISHED_AT_HEADER: published})
    else:
        instrumentation.uninstrument_all()
        messages.publish(queue, timestamp=published // 1_000_000_000)
        instrumentation.instrument_all(registry=registry)
    messages.consume(queue)
    messages.close()
    assert age <= told(spans.one("process"), names.MESSAGE_AGE_SECONDS) < age + 20
    assert samples(registry, f"{names.MESSAGE_AGE}_count") == [({"queue": "(anonymous)"}, 1)]


@CLIENTS
def test_an_age_below_zero_is_counted_and_not_shown(
    client: str, amqp_url: str, spans: Spans, registry: CollectorRegistry
) -> None:
    messages = through(client, amqp_url)
    queue = messages.declare()
    messages.publish(queue, {names.PUBLISHED_AT_HEADER: time.time_ns() + 10**12})
    messages.consume(queue)
    messages.close()
    assert told(spans.one("process"), names.MESSAGE_AGE_SECONDS) is None
    assert samples(registry, f"{names.MESSAGE_AGE}_count") == []
    assert samples(registry, names.MESSAGES_FROM_THE_FUTURE) == [({"queue": "(anonymous)"}, 1)]


@CLIENTS
@pytest.mark.parametrize("own", [None, 1_700_000_000])
@pytest.mark.usefixtures("registry", "spans")
def test_the_publisher_dates_a_message_that_the_application_has_not_dated(
    client: str, own: int | None, amqp_url: str
) -> None:
    messages = through(client, amqp_url)
    queue = messages.declare()
    before = int(time.time())
    messages.publish(queue, timestamp=own)
    if client == "pika":
        _, properties, _ = messages.channel.basic_get(queue, auto_ack=True)
        dated = properties.timestamp
    else:
        dated = messages.loop.run(_dated(messages.channel, queue))
    messages.close()
    assert dated == own if own else before <= dated <= time.time()


async def _dated(channel: Any, name: str) -> float:
    queue = await channel.get_queue(name, ensure=False)
    message = await queue.get(no_ack=True)
    assert isinstance(message.timestamp, datetime)
    return message.timestamp.astimezone(UTC).timestamp()


@CLIENTS
@pytest.mark.parametrize(("chosen", "old"), [("", False), ("messaging", False), ("http,messaging/dup", True)])
def test_the_old_attributes_are_written_beside_todays_only_on_request(
    client: str, chosen: str, *, old: bool, amqp_url: str, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OPT_IN, chosen)
    instrumentation.instrument_all()
    messages = through(client, amqp_url)
    queue = messages.declare()
    messages.publish(queue)
    messages.consume(queue)
    messages.close()
    instrumentation.uninstrument_all()
    for name in ("send", "process"):
        attributes = spans.one(name).attributes or {}
        assert attributes["messaging.destination.name"] == queue
        assert attributes.get("messaging.destination") == (queue if old else None)
        assert ("net.peer.name" in attributes) is old


def test_the_metrics_leave_their_registry_with_the_last_client() -> None:
    metrics = CollectorRegistry()
    for _ in range(2):
        instrumentation.instrument_all(registry=metrics)
        instrumentation.instrument_all(registry=metrics)
        assert {metric.name for metric in metrics.collect()} >= {names.MESSAGE_AGE}
        instrumentation.uninstrument_all()
        assert list(metrics.collect()) == []


def test_a_metric_of_the_applications_by_one_of_the_names_leaves_none_of_ours_behind(faults: Faults) -> None:
    metrics = CollectorRegistry()
    theirs = Histogram(names.MESSAGING_PROCESS_DURATION, "theirs", registry=metrics)
    instrumentation.instrument_all(registry=metrics)
    assert [metric.documentation for metric in metrics.collect()] == ["theirs"]
    metrics.unregister(theirs)
    instrumentation.instrument_all(registry=metrics)
    assert {metric.name for metric in metrics.collect()} >= {names.MESSAGING_PROCESS_DURATION, names.MESSAGE_AGE}
    instrumentation.uninstrument_all()
    faults.expected = {"pika", "aio_pika"}


class Raises(SpanProcessor):
    """A span processor as bad as can be.  where: the method that raises."""

    def __init__(self, where: str) -> None:
        setattr(self, where, self._fail)

    def _fail(self, *_: Any) -> None:
        raise OSError


@CLIENTS
@pytest.mark.parametrize("where", ["on_start", "on_end"])
@pytest.mark.usefixtures("registry")
def test_a_span_processor_that_raises_changes_nothing_for_the_application(
    client: str, where: str, amqp_url: str, spans: Spans, faults: Faults
) -> None:
    spans.provider.add_span_processor(Raises(where))
    messages = through(client, amqp_url)
    queue = messages.declare()
    messages.publish(queue)
    messages.consume(queue)  # returns after one message was handled and acknowledged
    messages.close()
    faults.expected = {"amqp"}


@CLIENTS
@pytest.mark.parametrize(
    "headers",
    [
        None,
        {"traceparent": "00-zz-zz-01", "tracestate": "=,="},
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
        {"baggage": "a=" + "b" * 65_536},
        {"x-death": 7, "x-delivery-count": "many", names.PUBLISHED_AT_HEADER: "yesterday"},
        {"x-death": [7, {"queue": 7, "count": "x", "reason": None}], names.PUBLISHED_AT_HEADER: True},
    ],
    ids=["none", "malformed", "zero", "64 KB", "odd", "odder"],
)
def test_headers_of_any_kind_are_no_obstacle_to_handling_and_settling(
    client: str, headers: dict[str, Any] | None, amqp_url: str, spans: Spans, registry: CollectorRegistry
) -> None:
    messages = through(client, amqp_url)
    queue = messages.declare()
    with suppress_instrumentation():
        messages.publish(queue, headers)
    messages.consume(queue)
    messages.close()
    assert told(spans.one("process"), names.OUTCOME) == "ack"
    assert outcomes(registry, f"{names.MESSAGING_PROCESS_DURATION}_count") == {"ack": 1}
