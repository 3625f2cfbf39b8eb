"""pika's asynchronous adapters, against a real broker: consuming, getting, publishing with its outcome, settling."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pika
import pytest
from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import StatusCode
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel

from otel_orders import names
from otel_orders.context import Order, bound, current_order
from otel_orders.instrumentation import pika as instrumentation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.instrumentation.conftest import Faults, Spans

pytestmark = pytest.mark.broker

ORDER = Order("4711", "acme")
METHODS = ("basic_publish", "confirm_delivery", "basic_consume", "basic_get", "basic_ack", "basic_nack", "basic_reject")


class Application:
    """A program in callbacks: opens a channel with a queue, calls *work*, runs until done() and closes."""

    def __init__(self, adapter: type, url: str, work: Callable[[Application], None]) -> None:
        self._work = work
        self._error: BaseException | None = None
        options: dict[str, Any] = {}
        if adapter is AsyncioConnection:
            self._loop: Any = asyncio.new_event_loop()
            options = {"custom_ioloop": self._loop}
        self.connection = adapter(
            pika.URLParameters(url),
            on_open_callback=lambda connection: connection.channel(on_open_callback=self._opened),
            on_open_error_callback=self._ended,
            on_close_callback=self._ended,
            **options,
        )
        self._timer = self.connection._adapter_call_later(20, lambda: self.fail(TimeoutError()))
        if options:
            self._loop.run_forever()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()
        else:
            self.connection.ioloop.start()
            self.connection.ioloop.close()
        if self._error is not None:
            raise self._error

    def _opened(self, channel: Any) -> None:
        self.channel = channel
        channel.queue_declare("", exclusive=True, callback=self._declared)

    def _declared(self, frame: Any) -> None:
        self.queue = frame.method.queue
        self._guarded(self._work, self)

    def _guarded(self, call: Callable[..., None], *args: Any) -> None:
        try:
            call(*args)
        except BaseException as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        self._error = error
        self.done()

    def done(self) -> None:
        if self.connection.is_open:
            self.connection.close()

    def _ended(self, _: Any, reason: Any) -> None:
        self.reason = reason
        self.connection._adapter_remove_timeout(self._timer)
        self.connection.ioloop.stop()

    def publish(self, to: str | None = None, order: Order | None = ORDER, **properties: Any) -> None:
        with bound(order):
            own = pika.BasicProperties(**properties)
            self.channel.basic_publish("", to or self.queue, b"payload", own, mandatory=True)

    def receive(self, how: str, on_message: Callable[..., None], *, auto_ack: bool = False) -> None:
        """Have *on_message* called with the next message, consuming or getting."""
        guarded_callback = lambda *args: self._guarded(on_message, *args)  # noqa: E731 - a callback like any
        if how == "consume":
            self.channel.basic_consume(self.queue, guarded_callback, auto_ack=auto_ack)
        else:
            self.channel.basic_get(self.queue, guarded_callback, auto_ack)


adapters = pytest.mark.parametrize("adapter", [pika.SelectConnection, AsyncioConnection])
ways = pytest.mark.parametrize("how", ["consume", "get"])


@pytest.fixture
def _instrumented() -> Iterator[None]:
    instrumentation.instrument()
    yield
    instrumentation.uninstrument()


@adapters
@ways
@pytest.mark.usefixtures("_instrumented")
def test_the_order_and_the_span_are_current_in_the_callback_and_nowhere_else(
    adapter: type, how: str, amqp_url: str, spans: Spans
) -> None:
    seen: list[Any] = []
    before = get_current()

    def work(app: Application) -> None:
        def on_message(channel: Any, method: Any, properties: Any, body: Any) -> None:
            seen.extend((channel is app.channel, body, properties.message_id, current_order()))
            seen.append(trace.get_current_span().get_span_context())
            channel.basic_ack(method.delivery_tag)
            app.done()

        app.publish(message_id="m-1")
        app.receive(how, on_message)
        assert current_order() is None

    Application(adapter, amqp_url, work)
    processing = spans.one("process")
    assert seen == [True, b"payload", "m-1", ORDER, processing.get_span_context()]
    assert processing.parent is not None
    assert processing.parent.span_id == spans.one("send").context.span_id
    assert (processing.attributes or {})[names.OUTCOME] == "ack"
    assert get_current() is before


@adapters
@pytest.mark.parametrize(
    ("outcome", "to"), [("confirmed", None), ("returned", "nowhere"), ("unconfirmed", None)], ids=lambda value: value
)
@pytest.mark.usefixtures("_instrumented")
def test_a_publishing_ends_when_the_broker_has_told_how_it_went(
    adapter: type, outcome: str, to: str | None, amqp_url: str, spans: Spans
) -> None:
    def work(app: Application) -> None:
        if outcome == "unconfirmed":
            app.publish()
            app.done()
            return

        def on_confirmed(frame: Any) -> None:
            if frame.method.delivery_tag == 2:
                app.done()

        def publish(_: Any) -> None:
            with suppress_instrumentation():
                app.publish()  # is confirmed too, and must not be taken for ours
            app.publish(to)
            assert spans.of("send") == []

        app.channel.confirm_delivery(on_confirmed, publish)

    Application(adapter, amqp_url, work)
    span = spans.one("send")
    assert (span.attributes or {})[names.OUTCOME] == outcome
    assert (span.status.status_code is StatusCode.ERROR) is (outcome == "returned")
    assert (span.attributes or {})[names.ORDER_ID] == "4711"


class Told(str):
    """A trace context of the application's own that counts how often it is looked at."""

    __slots__ = ()
    looks = 0

    def __eq__(self, other: object) -> bool:
        Told.looks += 1
        return str.__eq__(self, other)

    def __str__(self) -> str:
        Told.looks += 1
        return "".join(self)

    __hash__ = str.__hash__


@pytest.mark.parametrize("twins", [1, 2])
@pytest.mark.usefixtures("_instrumented")
def test_each_message_that_comes_back_is_found_without_a_look_at_all_others(
    amqp_url: str, spans: Spans, twins: int
) -> None:
    count = 200

    def work(app: Application) -> None:
        def on_confirmed(frame: Any) -> None:
            if frame.method.delivery_tag == count + 1:
                app.done()

        def publish(_: Any) -> None:
            for number in range(count):
                traceparent = Told(f"00-{1 + number // twins:032x}-b7ad6b7169203331-01")
                headers = {"traceparent": traceparent, names.PUBLISHED_AT_HEADER: 7}
                app.publish("nowhere", headers=headers)
            Told.looks = 0
            app.publish()

        app.channel.confirm_delivery(on_confirmed, publish)

    Application(pika.SelectConnection, amqp_url, work)
    outcomes = [(span.attributes or {})[names.OUTCOME] for span in spans.of("send")]
    assert (outcomes.count("returned"), outcomes.count("confirmed")) == (count, 1)
    assert Told.looks < 10 * count


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.usefixtures("_instrumented")
def test_what_is_never_settled_or_confirmed_says_so(amqp_url: str, spans: Spans, *, lost: bool) -> None:
    def work(app: Application) -> None:
        def on_message(*_: Any) -> None:
            app.connection._transport._sock.shutdown(socket.SHUT_RDWR) if lost else app.done()

        app.publish()
        app.receive("consume", on_message)

    Application(pika.SelectConnection, amqp_url, work)
    assert (spans.one("process").attributes or {})[names.OUTCOME] == "unsettled"
    assert (spans.one("send").attributes or {})[names.OUTCOME] == "unconfirmed"


@ways
@pytest.mark.usefixtures("_instrumented")
def test_an_error_of_the_callback_is_on_the_span_and_goes_on_to_pika(how: str, amqp_url: str, spans: Spans) -> None:
    failure = RuntimeError("no such model")

    def work(app: Application) -> None:
        def on_message(*_: Any) -> None:
            raise failure

        app.publish()
        app.channel.basic_consume(app.queue, on_message) if how == "consume" else app.channel.basic_get(
            queue=app.queue, callback=on_message
        )

    app = Application(pika.SelectConnection, amqp_url, work)
    assert str(failure) in str(app.reason)  # pika gives the connection up for it
    assert (spans.one("process").attributes or {})["error.type"] == "RuntimeError"


def test_uninstrumenting_restores_the_originals(amqp_url: str, spans: Spans) -> None:
    originals = [vars(Channel)[name] for name in METHODS]
    instrumentation.instrument()
    instrumentation.instrument()
    instrumentation.uninstrument()
    assert all(vars(Channel)[name] is original for name, original in zip(METHODS, originals, strict=True))

    def work(app: Application) -> None:
        app.publish()
        app.receive("get", lambda *_: app.done())

    Application(pika.SelectConnection, amqp_url, work)
    assert spans.finished == []


@adapters
@ways
@pytest.mark.usefixtures("_instrumented", "spans")
def test_a_fault_of_ours_is_counted_and_each_message_is_still_handled_once(
    adapter: type, how: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise OSError(name)

    monkeypatch.setattr("otel_orders.instrumentation.spans.tracer", Broken())
    handled: list[Any] = []

    def work(app: Application) -> None:
        def on_message(_channel: Any, _method: Any, properties: Any, body: Any) -> None:
            handled.append((properties.headers, body))
            app.done()

        app.publish()
        app.receive(how, on_message)

    Application(adapter, amqp_url, work)
    assert handled == [(None, b"payload")]
    faults.expected = {"amqp"}
