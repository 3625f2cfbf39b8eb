"""pika, against a real broker: every way to consume, and publishing."""

from __future__ import annotations

import contextvars
import copy
import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pika
import pytest
from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import UnroutableError

from otel_orders import names
from otel_orders.context import Order, bound, current_order
from otel_orders.instrumentation import pika as instrumentation
from otel_orders.instrumentation.amqp import Propagation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

    from tests.instrumentation.conftest import Faults, Spans

pytestmark = pytest.mark.broker

ORDER = Order("4711", "acme")
METHODS = ("basic_publish", "basic_consume", "consume", "cancel", "basic_get")

Work = Callable[[Any, Any, Any], object]


def by_callback(channel: Any, queue: str, work: Work) -> None:
    def on_message(channel: Any, method: Any, properties: Any, body: Any) -> None:
        channel.stop_consuming()
        work(method, properties, body)
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(queue, on_message)
    channel.start_consuming()


def by_generator(channel: Any, queue: str, work: Work) -> None:
    for method, properties, body in channel.consume(queue):
        work(method, properties, body)
        channel.basic_ack(method.delivery_tag)
        break
    channel.cancel()


def by_get(channel: Any, queue: str, work: Work) -> None:
    method, properties, body = channel.basic_get(queue)
    work(method, properties, body)
    channel.basic_ack(method.delivery_tag)
    assert channel.basic_get(queue) == (None, None, None)


every_way_to_consume = pytest.mark.parametrize("consume", [by_callback, by_generator, by_get])


@pytest.fixture
def channel(amqp_url: str) -> Iterator[Any]:
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        yield connection.channel()


@pytest.fixture
def queue(channel: Any) -> str:
    return str(channel.queue_declare("", exclusive=True).method.queue)


@pytest.fixture
def _instrumented() -> Iterator[None]:
    instrumentation.instrument()
    yield
    instrumentation.uninstrument()


def publish(channel: Any, queue: str, order: Order | None = ORDER, **properties: Any) -> None:
    with bound(order):
        channel.basic_publish("", queue, b"payload", pika.BasicProperties(**properties) if properties else None)


@every_way_to_consume
@pytest.mark.usefixtures("_instrumented")
def test_the_order_and_the_span_are_current_in_the_handler_and_nowhere_else(
    channel: Any, queue: str, spans: Spans, consume: Callable[..., None]
) -> None:
    seen: list[tuple[Order | None, Any]] = []

    def work(*_: Any) -> None:
        seen.append((current_order(), trace.get_current_span().get_span_context()))
        spans.tracer.start_span("work").end()

    before = get_current()
    publish(channel, queue)
    consume(channel, queue, work)

    processing = spans.one("process")
    assert seen == [(ORDER, processing.get_span_context())]
    assert spans.one("work").parent == processing.get_span_context()
    assert spans.one("work").attributes == ORDER.attributes
    assert processing.attributes is not None
    assert processing.attributes.items() >= ORDER.attributes.items()
    assert current_order() is None
    assert get_current() is before


@every_way_to_consume
@pytest.mark.usefixtures("_instrumented")
def test_a_young_trace_is_continued(channel: Any, queue: str, spans: Spans, consume: Callable[..., None]) -> None:
    publish(channel, queue)
    consume(channel, queue, lambda *_: None)
    processing = spans.one("process")
    assert processing.parent is not None
    assert processing.parent.span_id == spans.one("send").context.span_id
    assert processing.links == ()


@every_way_to_consume
@pytest.mark.parametrize("old", [True, False])
@pytest.mark.usefixtures("_instrumented")
def test_an_old_trace_and_one_of_a_long_queue_are_linked(
    channel: Any, queue: str, spans: Spans, consume: Callable[..., None], *, old: bool
) -> None:
    instrumentation.instrument(Propagation(young_for=0) if old else Propagation(long_queues=frozenset({queue})))
    publish(channel, queue)
    seen: list[Order | None] = []
    consume(channel, queue, lambda *_: seen.append(current_order()))

    processing, sending = spans.one("process"), spans.one("send")
    assert processing.parent is None
    assert processing.context.trace_id != sending.context.trace_id
    assert [link.context.span_id for link in processing.links] == [sending.context.span_id]
    assert seen == [ORDER]


@pytest.mark.usefixtures("_instrumented")
def test_spans_are_named_and_described_by_the_messaging_conventions(
    channel: Any, queue: str, spans: Spans, amqp_url: str
) -> None:
    channel.queue_bind(queue, "amq.direct", "pricing")
    channel.basic_publish(
        "amq.direct", "pricing", b"12345", pika.BasicProperties(message_id="m-1", correlation_id="c-1")
    )
    by_callback(channel, queue, lambda *_: None)

    common = {
        "messaging.system": "rabbitmq",
        "messaging.rabbitmq.destination.routing_key": "pricing",
        "messaging.message.id": "m-1",
        "messaging.message.conversation_id": "c-1",
        "server.address": urlsplit(amqp_url).hostname,
        "server.port": urlsplit(amqp_url).port,
    }
    sending, processing = spans.finished
    assert (sending.name, sending.kind) == ("send amq.direct:pricing", SpanKind.PRODUCER)
    assert sending.attributes == common | {
        "messaging.destination.name": "amq.direct:pricing",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "outcome": "unconfirmed",
    }
    assert (processing.name, processing.kind) == ("process amq.direct:pricing", SpanKind.CONSUMER)
    assert processing.attributes is not None
    ours = dict(processing.attributes)
    assert 0 < ours.pop("message_age_seconds") < 20  # type: ignore[operator]
    assert ours == common | {
        "messaging.destination.name": f"amq.direct:pricing:{queue}",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.anonymous": True,
        "messaging.rabbitmq.message.delivery_tag": 1,
        "outcome": "ack",
    }


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {},
        {"text": "a", "bytes": b"\xff", "number": 7, "none": None, "table": {"x": [1, True]}},
        {"traceparent": 7, "baggage": b"\xff\xfe", names.TRACE_STARTED_AT_HEADER: "soon"},
    ],
)
@every_way_to_consume
@pytest.mark.usefixtures("_instrumented", "spans")
def test_the_applications_headers_arrive_as_they_are_and_its_objects_stay_as_they_are(
    channel: Any, queue: str, consume: Callable[..., None], headers: dict[str, Any] | None
) -> None:
    own = pika.BasicProperties(headers=headers, content_type="text/plain")
    as_before = copy.deepcopy(own)
    channel.basic_publish("", queue, b"payload", own)
    received: list[Any] = []
    consume(channel, queue, lambda _, properties, body: received.append((properties, body)))

    assert own == as_before
    ((properties, body),) = received
    assert type(properties) is pika.BasicProperties
    assert properties.content_type == "text/plain"
    assert body == b"payload"
    carried = {"traceparent", "baggage", names.TRACE_STARTED_AT_HEADER, names.PUBLISHED_AT_HEADER}
    assert {key: value for key, value in properties.headers.items() if key not in carried} == {
        key: value for key, value in (headers or {}).items() if key not in carried
    }


@every_way_to_consume
@pytest.mark.usefixtures("_instrumented")
def test_a_message_without_headers_starts_a_trace_outside_any_order(
    channel: Any, queue: str, spans: Spans, consume: Callable[..., None]
) -> None:
    with suppress_instrumentation():
        channel.basic_publish("", queue, b"payload")
    seen: list[Order | None] = []
    with bound(ORDER):
        consume(channel, queue, lambda *_: seen.append(current_order()))
        assert current_order() is ORDER
    assert seen == [None]
    assert spans.one("process").parent is None


@pytest.mark.parametrize(("consume", "status"), [(by_callback, StatusCode.ERROR), (by_generator, StatusCode.UNSET)])
@pytest.mark.usefixtures("_instrumented")
def test_an_error_of_the_handler_reaches_the_caller_unchanged_and_ends_the_span(
    channel: Any, queue: str, spans: Spans, consume: Callable[..., None], status: StatusCode
) -> None:
    """A generator is not told why its loop was left, so that its span has no status, and ends with the channel."""
    failure = RuntimeError("no such model")

    def work(*_: Any) -> None:
        raise failure

    publish(channel, queue)
    with pytest.raises(RuntimeError) as caught:
        consume(channel, queue, work)
    assert caught.value is failure
    del caught
    gc.collect()
    if status is StatusCode.UNSET:
        channel.close()
    processing = spans.one("process")
    assert processing.status.status_code is status
    if status is StatusCode.ERROR:
        assert processing.attributes is not None
        assert processing.attributes["error.type"] == "RuntimeError"
        assert [event.name for event in processing.events] == ["exception"]


@pytest.mark.usefixtures("_instrumented")
def test_an_unroutable_message_is_an_error_of_its_span_and_of_the_application(
    channel: Any, queue: str, spans: Spans
) -> None:
    channel.confirm_delivery()
    with pytest.raises(UnroutableError):
        channel.basic_publish("", f"{queue}-nowhere", b"payload", mandatory=True)
    assert spans.one("send").status.status_code is StatusCode.ERROR
    assert channel.basic_publish("", queue, b"payload", mandatory=True) is None
    assert spans.of("send")[1].status.status_code is StatusCode.UNSET


@pytest.mark.usefixtures("_instrumented")
def test_what_a_handler_publishes_is_in_its_trace_and_its_order_and_keeps_the_traces_start(
    channel: Any, queue: str, spans: Spans
) -> None:
    replies = channel.queue_declare("", exclusive=True).method.queue
    received: list[Any] = []

    def answer(_method: Any, properties: Any, _body: Any) -> None:
        received.append(properties)
        channel.basic_publish("", replies, b"reply")

    publish(channel, queue)
    by_callback(channel, queue, answer)
    by_callback(channel, replies, lambda _method, properties, _body: received.append(properties))

    first, reply = (properties.headers for properties in received)
    assert reply[names.TRACE_STARTED_AT_HEADER] == first[names.PUBLISHED_AT_HEADER]
    assert reply[names.PUBLISHED_AT_HEADER] > first[names.PUBLISHED_AT_HEADER]
    assert {span.context.trace_id for span in spans.finished} == {spans.finished[0].context.trace_id}
    assert {dict(span.attributes or {}).get(names.ORDER_ID) for span in spans.finished} == {"4711"}


@pytest.mark.usefixtures("_instrumented")
def test_a_loop_over_two_orders_is_in_one_after_the_other(channel: Any, queue: str, spans: Spans) -> None:
    for order in (Order("1"), None, Order("2")):
        publish(channel, queue, order)
    seen = []
    for number, (method, _, _) in enumerate(channel.consume(queue, auto_ack=True, inactivity_timeout=0.2)):
        seen.append((method is not None, current_order()))
        if number == 3:
            break
    channel.cancel()
    assert seen == [(True, Order("1")), (True, None), (True, Order("2")), (False, None)]
    assert len(spans.of("process")) == 3


@pytest.mark.usefixtures("_instrumented")
def test_a_got_message_is_in_process_until_the_application_lets_go_of_it(
    channel: Any, queue: str, spans: Spans
) -> None:
    publish(channel, queue)
    publish(channel, queue, Order("next"))

    def poll() -> None:
        _, _, body = channel.basic_get(queue, auto_ack=True)
        assert body == b"payload"
        assert current_order() == ORDER

    poll()
    assert current_order() is None
    assert spans.of("process") == []  # a finalizer must not run span processors; the next message does
    channel.basic_get(queue, auto_ack=True)
    channel.basic_get(queue, auto_ack=True)
    first, second = spans.of("process")
    assert (first.attributes or {})[names.ORDER_ID] == "4711"
    assert first.end_time is not None
    assert second.start_time is not None
    assert first.end_time < second.start_time


@pytest.mark.usefixtures("_instrumented")
@pytest.mark.parametrize("settle", ["basic_ack", "basic_nack", "basic_reject"])
def test_a_got_message_is_in_process_until_it_is_settled(settle: str, channel: Any, queue: str, spans: Spans) -> None:
    publish(channel, queue)
    method, _, _ = channel.basic_get(queue)
    assert current_order() == ORDER
    getattr(channel, settle)(method.delivery_tag)
    assert current_order() is None
    (processing,) = spans.of("process")
    assert (processing.attributes or {})[names.ORDER_ID] == "4711"


@pytest.mark.usefixtures("_instrumented")
def test_a_get_inside_a_loop_hands_back_to_the_loops_message(channel: Any, queue: str, spans: Spans) -> None:
    other = channel.queue_declare("", exclusive=True).method.queue
    publish(channel, queue, Order("outer"))
    publish(channel, other, Order("inner"))
    seen = []
    for _ in channel.consume(queue, auto_ack=True):
        seen.append(current_order())
        method, properties, _ = channel.basic_get(other)
        seen.append(current_order())
        del method, properties
        seen.append(current_order())
        break
    channel.cancel()
    assert seen == [Order("outer"), Order("inner"), Order("outer")]
    assert spans.one("process").attributes is not None


@pytest.mark.usefixtures("_instrumented")
def test_a_message_held_after_its_loop_leaves_nothing_behind(channel: Any, queue: str, spans: Spans) -> None:
    other = channel.queue_declare("", exclusive=True).method.queue
    publish(channel, queue, Order("outer"))
    publish(channel, other, Order("inner"))

    def work() -> None:
        for _ in channel.consume(queue, auto_ack=True):
            held = channel.basic_get(other)
            assert held
            break
        channel.cancel()

    before = get_current()
    work()
    assert current_order() is None
    assert get_current() is before
    assert len(spans.of("process")) == 1


@pytest.mark.usefixtures("_instrumented")
def test_a_loop_inside_a_span_of_the_application_links_to_it(channel: Any, queue: str, spans: Spans) -> None:
    publish(channel, queue)
    with spans.tracer.start_as_current_span("nightly import") as ours:
        by_generator(channel, queue, lambda *_: None)
        assert trace.get_current_span() is ours
    (link,) = spans.one("process").links
    assert link.context == ours.get_span_context()


@pytest.mark.usefixtures("_instrumented")
def test_suppressed_instrumentation_leaves_no_trace(channel: Any, queue: str, spans: Spans) -> None:
    received: list[Any] = []
    with suppress_instrumentation():
        publish(channel, queue)
        by_callback(channel, queue, lambda _m, properties, _b: received.append((properties.headers, current_order())))
    assert received == [(None, None)]
    assert spans.finished == []


def test_instrumenting_twice_is_harmless_and_uninstrumenting_restores_the_originals(
    channel: Any, queue: str, spans: Spans
) -> None:
    originals = [vars(BlockingChannel)[name] for name in METHODS]
    instrumentation.instrument()
    instrumentation.instrument()
    publish(channel, queue)
    by_get(channel, queue, lambda *_: None)
    instrumentation.uninstrument()
    instrumentation.uninstrument()
    assert all(vars(BlockingChannel)[name] is original for name, original in zip(METHODS, originals, strict=True))
    assert [span.name.split()[0] for span in spans.finished] == ["send", "process"]


@pytest.mark.usefixtures("_instrumented")
def test_a_consumer_that_is_already_running_is_untraced_after_uninstrumenting(
    channel: Any, queue: str, spans: Spans
) -> None:
    def work(channel: Any, *_: Any) -> None:
        channel.stop_consuming()

    channel.basic_consume(queue, work, auto_ack=True)
    instrumentation.uninstrument()
    publish(channel, queue)
    channel.start_consuming()
    assert spans.finished == []


@every_way_to_consume
@pytest.mark.usefixtures("_instrumented", "spans")
def test_a_fault_of_ours_is_counted_and_each_message_is_still_handled_once(
    channel: Any, queue: str, consume: Callable[..., None], monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise OSError(name)

    monkeypatch.setattr("otel_orders.instrumentation.spans.tracer", Broken())
    handled: list[Any] = []
    publish(channel, queue)
    consume(channel, queue, lambda *delivery: handled.append(delivery))
    assert [body for _, _, body in handled] == [b"payload"]
    assert handled[0][1].headers is None
    faults.expected = {"amqp"}


@pytest.mark.usefixtures("_instrumented", "spans")
def test_wrong_arguments_raise_what_pika_raises(channel: Any, faults: Faults) -> None:
    with pytest.raises(TypeError, match="basic_publish"):
        channel.basic_publish("only an exchange")
    with pytest.raises(TypeError, match="on_message_callback"):
        channel.basic_consume("queue", None)
    faults.expected = {"amqp"}


@pytest.mark.parametrize(
    "told",
    [
        ORDER,
        None,
    ],
)
@pytest.mark.usefixtures("_instrumented")
def test_an_order_that_was_bound_around_a_get_ends_with_its_block(told: Order | None, channel: Any, queue: str) -> None:
    def application() -> Order | None:
        with bound(told):
            channel.basic_publish("", queue, b"payload")
        with bound(Order("other")):
            message = channel.basic_get(queue)
        del message
        channel.basic_get(queue)
        return current_order()

    assert contextvars.copy_context().run(application) is None


class Collecting(SpanProcessor):
    """Is at work, as if it held its lock, while the garbage collector runs.  ended: the spans that ended meanwhile."""

    def __init__(self) -> None:
        self._at_work = False
        self.ended: list[str] = []

    def on_end(self, span: ReadableSpan) -> None:
        if self._at_work:
            self.ended.append(span.name)
        elif span.name == "work":
            self._at_work = True
            gc.collect()
            self._at_work = False


@pytest.mark.usefixtures("_instrumented")
def test_a_loop_that_the_garbage_collector_finds_ends_its_span_after_the_collection(
    channel: Any, queue: str, spans: Spans
) -> None:
    class Worker:
        messages: Any
        itself: Any

    def abandon() -> None:
        worker = Worker()
        worker.itself, worker.messages = worker, channel.consume(queue, auto_ack=True)
        next(worker.messages)

    collecting = Collecting()
    spans.provider.add_span_processor(collecting)
    publish(channel, queue)
    gc.disable()
    try:
        abandon()
        spans.tracer.start_span("work").end()
    finally:
        gc.enable()
    assert current_order() is None
    assert collecting.ended == []
    assert spans.of("process") == []
    publish(channel, queue)
    work_ended_at = spans.one("work").end_time or 0
    assert (spans.one("process").attributes or {})[names.ORDER_ID] == "4711"
    assert (spans.one("process").end_time or 0) >= work_ended_at
