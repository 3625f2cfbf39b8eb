"""aio-pika, against a real broker: every way to consume, publishing, robust connections and patterns."""

from __future__ import annotations

import asyncio
import copy
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aio_pika
import pytest
from aio_pika import Exchange, Message
from aio_pika.exceptions import DeliveryError
from aio_pika.message import IncomingMessage, ProcessContext
from aio_pika.patterns import RPC, JsonRPC, Master
from aio_pika.queue import Queue, QueueIterator
from aio_pika.robust_queue import RobustQueueIterator
from aiormq.channel import Channel as AmqpChannel
from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import SpanKind, StatusCode

from otel_orders import names
from otel_orders.context import Order, bound, current_order
from otel_orders.instrumentation import aio_pika as instrumentation
from otel_orders.instrumentation.amqp import Propagation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.instrumentation.conftest import Faults, Spans

pytestmark = [pytest.mark.broker, pytest.mark.anyio]

ORDER = Order("4711", "acme")
PATCHED = [
    (Exchange, "publish"),
    (Queue, "consume"),
    (Queue, "get"),
    (QueueIterator, "__anext__"),
    (QueueIterator, "__aexit__"),
    (QueueIterator, "close"),
    (ProcessContext, "__aexit__"),
    (AmqpChannel, "basic_ack"),
    (AmqpChannel, "basic_nack"),
    (AmqpChannel, "basic_reject"),
]
if "__anext__" in vars(RobustQueueIterator):  # since aio-pika 9.6
    PATCHED.append((RobustQueueIterator, "__anext__"))

Work = Callable[[Any], Awaitable[object]]
Consume = Callable[[Any, Work], Awaitable[None]]


async def by_callback(queue: Any, work: Work) -> None:
    done: asyncio.Queue[BaseException | None] = asyncio.Queue()

    async def on_message(message: Any) -> None:
        try:
            async with message.process():
                await work(message)
        except BaseException as error:
            asyncio.get_running_loop().call_soon(done.put_nowait, error)
            raise
        asyncio.get_running_loop().call_soon(done.put_nowait, None)

    tag = await queue.consume(on_message)
    error = await done.get()
    await queue.cancel(tag)
    if error is not None:
        raise error


async def by_iterator(queue: Any, work: Work) -> None:
    async with queue.iterator() as messages:
        async for message in messages:
            async with message.process():
                await work(message)
            break


async def by_bare_loop(queue: Any, work: Work) -> None:
    messages = queue.iterator()
    try:
        async for message in messages:
            async with message.process():
                await work(message)
            break
    finally:
        await messages.close()


async def by_get(queue: Any, work: Work) -> None:
    message = await queue.get()
    async with message.process():
        await work(message)
    assert await queue.get(fail=False) is None


every_way_to_consume = pytest.mark.parametrize("consume", [by_callback, by_iterator, by_bare_loop, by_get])


async def nothing(_: Any) -> None: ...


@pytest.fixture(params=[aio_pika.connect, aio_pika.connect_robust], ids=["plain", "robust"])
async def channel(amqp_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    async with await request.param(amqp_url) as connection:
        yield await connection.channel()


@pytest.fixture
async def queue(channel: Any) -> Any:
    return await channel.declare_queue(exclusive=True)


@pytest.fixture
def _instrumented() -> Iterator[None]:
    instrumentation.instrument()
    yield
    instrumentation.uninstrument()


async def publish(channel: Any, queue: Any, order: Order | None = ORDER, **properties: Any) -> None:
    with bound(order):
        await channel.default_exchange.publish(Message(b"payload", **properties), queue.name)


@every_way_to_consume
@pytest.mark.usefixtures("_instrumented")
async def test_the_order_and_the_span_are_current_in_the_handler_and_nowhere_else(
    channel: Any, queue: Any, spans: Spans, consume: Consume
) -> None:
    seen: list[tuple[Order | None, Any]] = []

    async def work(_: Any) -> None:
        await asyncio.sleep(0)
        seen.append((current_order(), trace.get_current_span().get_span_context()))
        spans.tracer.start_span("work").end()

    before = get_current()
    await publish(channel, queue)
    await consume(queue, work)

    processing = spans.one("process")
    assert seen == [(ORDER, processing.get_span_context())]
    assert spans.one("work").parent == processing.get_span_context()
    assert spans.one("work").attributes == ORDER.attributes
    assert (processing.attributes or {}).items() >= ORDER.attributes.items()
    assert current_order() is None
    assert get_current() is before


@every_way_to_consume
@pytest.mark.usefixtures("_instrumented")
async def test_a_young_trace_is_continued(channel: Any, queue: Any, spans: Spans, consume: Consume) -> None:
    await publish(channel, queue)
    await consume(queue, nothing)
    processing = spans.one("process")
    assert processing.parent is not None
    assert processing.parent.span_id == spans.one("send").context.span_id
    assert processing.links == ()


@every_way_to_consume
@pytest.mark.parametrize("old", [True, False])
@pytest.mark.usefixtures("_instrumented")
async def test_an_old_trace_and_one_of_a_long_queue_are_linked(
    channel: Any, queue: Any, spans: Spans, consume: Consume, *, old: bool
) -> None:
    instrumentation.instrument(Propagation(young_for=0) if old else Propagation(long_queues=frozenset({queue.name})))
    await publish(channel, queue)
    seen: list[Order | None] = []

    async def work(_: Any) -> None:
        seen.append(current_order())

    await consume(queue, work)
    processing, sending = spans.one("process"), spans.one("send")
    assert processing.parent is None
    assert processing.context.trace_id != sending.context.trace_id
    assert [link.context.span_id for link in processing.links] == [sending.context.span_id]
    assert seen == [ORDER]


@pytest.mark.usefixtures("_instrumented")
async def test_spans_are_named_and_described_by_the_messaging_conventions(
    channel: Any, queue: Any, spans: Spans, amqp_url: str
) -> None:
    exchange = await channel.get_exchange("amq.direct", ensure=False)
    await queue.bind(exchange, "pricing")
    await exchange.publish(Message(b"12345", message_id="m-1", correlation_id="c-1"), "pricing")
    await by_callback(queue, nothing)

    common = {
        "messaging.system": "rabbitmq",
        "messaging.rabbitmq.destination.routing_key": "pricing",
        "messaging.message.id": "m-1",
        "messaging.message.conversation_id": "c-1",
        "server.address": urlsplit(amqp_url).hostname,
        "server.port": urlsplit(amqp_url).port,
    }
    sending, processing = spans.one("send"), spans.one("process")
    assert (sending.name, sending.kind) == ("send amq.direct:pricing", SpanKind.PRODUCER)
    assert sending.attributes == common | {
        "messaging.destination.name": "amq.direct:pricing",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "outcome": "confirmed",
    }
    assert (processing.name, processing.kind) == ("process amq.direct:pricing", SpanKind.CONSUMER)
    assert processing.attributes is not None
    ours = dict(processing.attributes)
    assert 0 < ours.pop("message_age_seconds") < 20  # type: ignore[operator]
    assert ours == common | {
        "messaging.destination.name": f"amq.direct:pricing:{queue.name}",
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
        {"text": "a", "number": 7, "none": None, "table": {"x": [1, True]}},
        {"traceparent": 7, "baggage": "=,;", names.TRACE_STARTED_AT_HEADER: "soon"},
    ],
)
@every_way_to_consume
@pytest.mark.usefixtures("_instrumented", "spans")
async def test_the_applications_headers_arrive_as_they_are_and_its_message_stays_as_it_is(
    channel: Any, queue: Any, consume: Consume, headers: dict[str, Any] | None
) -> None:
    own = Message(b"payload", headers=headers, content_type="text/plain")
    as_before = copy.deepcopy(own.info())
    result = await channel.default_exchange.publish(own, queue.name)
    received: list[Any] = []

    async def work(message: Any) -> None:
        received.append(message)

    await consume(queue, work)
    assert own.info() == as_before
    assert type(result).__name__ == "Ack"
    (message,) = received
    assert type(message) is IncomingMessage
    assert (message.body, message.content_type) == (b"payload", "text/plain")
    carried = {"traceparent", "baggage", names.TRACE_STARTED_AT_HEADER, names.PUBLISHED_AT_HEADER}
    assert {key: value for key, value in message.headers.items() if key not in carried} == {
        key: value for key, value in (headers or {}).items() if key not in carried
    }


@every_way_to_consume
@pytest.mark.usefixtures("_instrumented")
async def test_a_message_without_headers_starts_a_trace_outside_any_order(
    channel: Any, queue: Any, spans: Spans, consume: Consume
) -> None:
    with suppress_instrumentation():
        await publish(channel, queue)
    seen: list[Order | None] = []

    async def work(_: Any) -> None:
        seen.append(current_order())

    with bound(ORDER):
        await consume(queue, work)
        assert current_order() is ORDER
    assert seen == [None]
    assert spans.one("process").parent is None


@every_way_to_consume
@pytest.mark.usefixtures("_instrumented")
async def test_an_error_of_the_handler_reaches_the_caller_unchanged_and_is_on_the_span(
    channel: Any, queue: Any, spans: Spans, consume: Consume
) -> None:
    failure = RuntimeError("no such model")

    async def work(_: Any) -> None:
        raise failure

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # aio-pika's task reports it, with us or without
    await publish(channel, queue)
    with pytest.raises(RuntimeError) as caught:
        await consume(queue, work)
    assert caught.value is failure
    processing = spans.one("process")
    assert processing.status.status_code is StatusCode.ERROR
    assert (processing.attributes or {})["error.type"] == "RuntimeError"
    assert [event.name for event in processing.events] == ["exception"]


@pytest.mark.usefixtures("_instrumented")
async def test_cancellation_passes_through_and_is_on_the_span(channel: Any, queue: Any, spans: Spans) -> None:
    working = asyncio.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def on_message(_: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        working.set()
        await asyncio.Event().wait()

    tag = await queue.consume(on_message, no_ack=True)
    await publish(channel, queue)
    await working.wait()
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    await queue.cancel(tag)
    processing = spans.one("process")
    assert processing.status.status_code is StatusCode.ERROR
    assert (processing.attributes or {})["error.type"] == "cancelled"


@pytest.mark.usefixtures("_instrumented")
async def test_an_unroutable_message_is_an_error_of_its_span_and_of_the_application(
    amqp_url: str, spans: Spans
) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel(on_return_raises=True)
        with pytest.raises(DeliveryError):
            await channel.default_exchange.publish(Message(b""), "nowhere")
    assert spans.one("send").status.status_code is StatusCode.ERROR


@pytest.mark.usefixtures("_instrumented")
async def test_messages_of_two_orders_at_work_at_once_on_one_channel_do_not_mix(
    channel: Any, queue: Any, spans: Spans
) -> None:
    orders = [Order(str(number), f"partner-{number % 2}") for number in range(10)]
    seen: dict[str, set[Order | None]] = {}
    all_started, all_done = asyncio.Event(), asyncio.Event()
    started = 0

    async def on_message(message: Any) -> None:
        nonlocal started
        started += 1
        mine = seen.setdefault(message.message_id, {current_order()})
        if started == len(orders):
            all_started.set()
        await all_started.wait()
        for _ in range(3):
            await asyncio.sleep(0)
            mine.add(current_order())
        await publish(channel, replies, current_order())
        await message.ack()
        if len([message for message in seen.values() if message]) == len(orders) == len(spans.of("send")) - len(orders):
            all_done.set()

    replies = await channel.declare_queue(exclusive=True)
    for order in orders:
        await publish(channel, queue, order, message_id=order.order_id)
    await queue.consume(on_message)
    await asyncio.wait_for(all_done.wait(), 20)
    assert seen == {order.order_id: {order} for order in orders}
    sent = spans.of(f"send {replies.name}")
    by_span = {span.context.span_id: span for span in spans.of("process")}
    for span in sent:
        assert span.parent is not None
        order_id = (span.attributes or {})[names.ORDER_ID]
        assert (by_span[span.parent.span_id].attributes or {})[names.ORDER_ID] == order_id


@pytest.mark.usefixtures("_instrumented")
async def test_workers_that_share_a_queue_object_do_not_end_each_others_messages(
    channel: Any, queue: Any, spans: Spans
) -> None:
    orders = [Order("1"), Order("2")]
    for order in orders:
        await publish(channel, queue, order)
    both_have_one = asyncio.Barrier(2)

    async def work() -> Order | None:
        message = await queue.get()
        await both_have_one.wait()
        order = current_order()
        assert not spans.of("process")
        await both_have_one.wait()
        await message.ack()
        return order

    assert {*await asyncio.gather(work(), work())} == {*orders}


@pytest.mark.parametrize("settle", ["ack", "nack", "reject"])
@pytest.mark.usefixtures("_instrumented")
async def test_a_got_message_is_in_process_until_it_is_settled(
    channel: Any, queue: Any, spans: Spans, settle: str
) -> None:
    await publish(channel, queue)
    message = await queue.get()
    assert current_order() == ORDER
    await getattr(message, settle)()
    assert current_order() is None
    assert (spans.one("process").attributes or {})[names.ORDER_ID] == "4711"


@pytest.mark.usefixtures("_instrumented")
async def test_a_got_message_that_needs_no_settling_is_in_process_until_the_next_is_asked_for(
    channel: Any, queue: Any, spans: Spans
) -> None:
    await publish(channel, queue)
    await queue.get(no_ack=True)
    assert current_order() == ORDER
    assert await queue.get(fail=False) is None
    assert current_order() is None
    assert spans.one("process").status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("inside_a_span", [False, True])
@pytest.mark.usefixtures("_instrumented")
async def test_a_task_that_asks_for_the_queue_before_each_get_keeps_none_of_them(
    channel: Any, queue: Any, spans: Spans, *, inside_a_span: bool
) -> None:
    seen: weakref.WeakSet[Any] = weakref.WeakSet()
    for _ in range(10):
        await publish(channel, queue)
        found = await channel.get_queue(queue.name, ensure=False)
        seen.add(found)
        message = await found.get()
        with spans.tracer.start_as_current_span("work") if inside_a_span else nullcontext():
            await message.ack()
    del found, message
    await queue.get(fail=False)
    gc.collect()
    assert len(spans.of("process")) == 10
    assert not seen


@pytest.mark.usefixtures("_instrumented")
async def test_an_exception_that_nobody_retrieves_is_told_by_asyncio_as_ever(channel: Any, queue: Any) -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    await publish(channel, queue)

    async def work() -> None:
        await queue.get(no_ack=True)
        raise RuntimeError("nobody asks")

    task = asyncio.create_task(work())
    await asyncio.wait([task])
    await asyncio.sleep(0)  # the task's end is told to us after those who wait for it
    del task
    gc.collect()
    assert [(context["message"], str(context["exception"])) for context in told] == [
        ("Task exception was never retrieved", "nobody asks")
    ]


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
@pytest.mark.usefixtures("_instrumented")
async def test_a_loop_without_a_block_ends_at_the_latest_with_its_task(
    channel: Any, queue: Any, spans: Spans, error: type[BaseException]
) -> None:
    await publish(channel, queue)

    async def work() -> None:
        async for message in queue:
            await message.ack()
            raise error

    with pytest.raises(error):
        await asyncio.create_task(work())
    assert current_order() is None
    await asyncio.sleep(0)  # the task's end is told to us after those who wait for it
    assert spans.one("process").status.status_code is StatusCode.ERROR


@pytest.mark.usefixtures("_instrumented")
async def test_a_loop_over_several_orders_is_in_one_after_the_other(channel: Any, queue: Any, spans: Spans) -> None:
    orders = [Order("1"), None, Order("2", "acme")]
    for order in orders:
        await publish(channel, queue, order)
    seen: list[Order | None] = []
    async with queue.iterator() as messages:
        async for message in messages:
            seen.append(current_order())
            await message.ack()
            if len(seen) == len(orders):
                break
        assert current_order() == orders[-1]
    assert seen == orders
    assert len(spans.of("process")) == len(orders)


@pytest.mark.parametrize("pattern", [RPC, JsonRPC])
@pytest.mark.usefixtures("_instrumented")
async def test_a_remote_procedure_call_is_one_trace_in_one_order(
    channel: Any, spans: Spans, pattern: type[RPC]
) -> None:
    seen: list[Order | None] = []

    async def price(*, model: str) -> str:
        seen.append(current_order())
        return f"price of {model}"

    rpc = await pattern.create(channel)
    await rpc.register("otel-orders-test-price", price, auto_delete=True)
    with bound(ORDER):
        assert await rpc.call("otel-orders-test-price", {"model": "ring"}) == "price of ring"
        assert current_order() == ORDER
    await rpc.close()
    assert seen == [ORDER]
    assert [span.name.split()[0] for span in spans.finished].count("send") == 2
    assert len({span.context.trace_id for span in spans.finished}) == 1


@pytest.mark.usefixtures("_instrumented", "spans")
async def test_a_masters_worker_is_in_the_order_of_its_task(channel: Any) -> None:
    seen: asyncio.Queue[Order | None] = asyncio.Queue()

    async def work(*, number: int) -> None:
        assert number == 7
        seen.put_nowait(current_order())

    master = Master(channel)
    worker = await master.create_worker("otel-orders-test-worker", work, auto_delete=True)
    with bound(ORDER):
        await master.create_task("otel-orders-test-worker", {"number": 7})
    assert await asyncio.wait_for(seen.get(), 20) == ORDER
    await worker.close()


@pytest.mark.usefixtures("_instrumented")
async def test_suppressed_instrumentation_leaves_no_trace(channel: Any, queue: Any, spans: Spans) -> None:
    received: list[Any] = []

    async def work(message: Any) -> None:
        received.append((message.headers, current_order()))

    with suppress_instrumentation():
        await publish(channel, queue)
        await by_iterator(queue, work)
    assert received == [({}, None)]
    assert spans.finished == []


async def test_instrumenting_twice_is_harmless_and_uninstrumenting_restores_the_originals(
    channel: Any, queue: Any, spans: Spans
) -> None:
    originals = [vars(owner)[name] for owner, name in PATCHED]
    instrumentation.instrument()
    instrumentation.instrument()
    await publish(channel, queue)
    await by_iterator(queue, nothing)
    instrumentation.uninstrument()
    instrumentation.uninstrument()
    assert all(vars(owner)[name] is original for (owner, name), original in zip(PATCHED, originals, strict=True))
    assert [span.name.split()[0] for span in spans.finished] == ["send", "process"]


@pytest.mark.usefixtures("_instrumented")
async def test_a_consumer_that_is_already_running_is_untraced_after_uninstrumenting(
    channel: Any, queue: Any, spans: Spans
) -> None:
    handled = asyncio.Event()

    async def on_message(_: Any) -> None:
        handled.set()

    await queue.consume(on_message, no_ack=True)
    instrumentation.uninstrument()
    await publish(channel, queue)
    await asyncio.wait_for(handled.wait(), 20)
    assert spans.finished == []


@every_way_to_consume
@pytest.mark.usefixtures("_instrumented", "spans")
async def test_a_fault_of_ours_is_counted_and_each_message_is_still_handled_once(
    channel: Any, queue: Any, consume: Consume, monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise OSError(name)

    monkeypatch.setattr("otel_orders.instrumentation.spans.tracer", Broken())
    handled: list[Any] = []

    async def work(message: Any) -> None:
        handled.append(message.body)

    await publish(channel, queue)
    await consume(queue, work)
    assert handled == [b"payload"]
    faults.expected = {"amqp"}


@pytest.mark.usefixtures("_instrumented", "spans")
async def test_a_callback_that_is_no_coroutine_is_warned_about_and_works_as_in_aio_pika(
    channel: Any, queue: Any
) -> None:
    handled = asyncio.Event()

    def on_message(_: Any) -> None:
        handled.set()

    with pytest.warns(DeprecationWarning, match="non-coroutine function"):
        tag = await queue.consume(on_message, no_ack=True)
    await publish(channel, queue)
    with pytest.warns(DeprecationWarning, match="non awaitable result"):
        await asyncio.wait_for(handled.wait(), 20)
    await queue.cancel(tag)
