"""An application behaves the same on pika's asynchronous adapters with us and without us, whatever goes wrong in us.

The behaviours are those that pika's own acceptance tests check (tests/acceptance/async_adapter_tests.py).
"""

from __future__ import annotations

import contextvars
import functools
from typing import TYPE_CHECKING, Any

import pika
import pytest
from opentelemetry.instrumentation.pika import PikaInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.spec import Basic

from otel_orders.instrumentation import pika as instrumentation
from tests.instrumentation.test_pika_async import Application
from tests.instrumentation.transcripts import CONDITIONS, HEADERS, OFFICIAL, Log, instrumented

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.instrumentation.conftest import Faults, Spans

    Behaviour = Callable[["App"], None]

pytestmark = pytest.mark.broker


class App:
    """An application in callbacks.  headers: names those of its messages; "ours": it sends them itself."""

    def __init__(self, running: Application, headers: str, log: Log) -> None:
        self.running, self.channel, self.queue, self.log = running, running.channel, running.queue, log
        self._headers = headers

    def send(self, *bodies: bytes, **properties: Any) -> None:
        for body in bodies:
            if self._headers == "ours":
                self.channel.basic_publish("", self.queue, body, pika.BasicProperties(**properties))
            else:
                own = pika.BasicProperties(headers=HEADERS[self._headers], **properties)
                with suppress_instrumentation():
                    self.channel.basic_publish("", self.queue, body, own)

    def sees(self, count: int, *seen: Any) -> None:
        """Write down what was seen; it is over when there are *count* lines."""
        self.log.note(*seen)
        if len(self.log) == count:
            self.left()

    def left(self) -> None:
        """Close the channel, write down what is in the queue then, and leave."""
        self.channel.add_on_close_callback(lambda *_: self.reopen())
        self.channel.close()

    def reopen(self) -> None:
        self.running.connection.channel(on_open_callback=self._count)

    def _count(self, channel: Any) -> None:
        def received(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
            self.log.note("left", body, method.redelivered, method.message_count)
            channel.basic_get(self.queue, received, True)

        channel.add_callback(lambda _: self.running.done(), [Basic.GetEmpty])
        channel.basic_get(self.queue, received, auto_ack=True)


def confirms(app: App) -> None:
    """The broker may confirm several at once: which ones is what counts."""
    confirmed: set[int] = set()

    def told(frame: Any) -> None:
        tag = frame.method.delivery_tag
        confirmed.update(range(1, tag + 1) if frame.method.multiple else (tag,))
        if len(confirmed) == 3:
            app.sees(1, type(frame).__name__, type(frame.method).__name__, sorted(confirmed))

    app.channel.confirm_delivery(told, callback=lambda _: app.send(b"1", b"2", b"3"))


def nacked(app: App) -> None:
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}

    def declared(frame: Any) -> None:
        publish = functools.partial(app.channel.basic_publish, "", frame.method.queue, b"1")

        def told(frame: Any) -> None:
            if isinstance(frame.method, Basic.Ack):
                publish()
            app.sees(2, frame.method)

        app.channel.confirm_delivery(told, callback=lambda _: publish())

    app.channel.queue_declare("", exclusive=True, arguments=full, callback=declared)


def returned(app: App) -> None:
    app.channel.add_on_return_callback(lambda *told: app.sees(2, *told))
    own = pika.BasicProperties(message_id="m", headers={"own": {"nested": None}})
    app.channel.basic_publish("", "nowhere", b"1", own, mandatory=True)
    app.channel.basic_publish(exchange="", routing_key="nowhere", body=b"2", properties=None, mandatory=True)


def consuming(app: App) -> None:
    """A function, a partial and an object are callbacks; each message is handled once."""

    class Worker:
        def __call__(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
            channel.basic_cancel(method.consumer_tag)
            settle = (channel.basic_ack, channel.basic_nack, channel.basic_reject)[method.delivery_tag % 3]
            settle(method.delivery_tag)
            app.sees(3, channel is app.channel, method, properties, body)
            if len(app.log) < 3:
                follow(self.__call__)

    def follow(callback: Any) -> None:
        app.channel.basic_consume(queue=app.queue, on_message_callback=callback)

    app.channel.basic_qos(prefetch_count=1)
    app.send(b"1", b"2", b"3", content_type="text/plain")
    follow(functools.partial(Worker()))


def getting(app: App) -> None:
    app.send(b"1", b"2", b"3")

    def got(channel: Any, *received: Any) -> None:
        app.log.note(channel is app.channel, *received)
        if len(app.log) == 1:
            app.channel.basic_get(queue=app.queue, callback=got, auto_ack=True)
        else:
            app.sees(3, "enough")

    app.channel.basic_get(app.queue, got)


def getting_nothing(app: App) -> None:
    app.channel.add_callback(lambda frame: app.sees(2, frame.method), [Basic.GetEmpty], one_shot=False)
    app.channel.basic_get(app.queue, app.running.fail)
    app.channel.add_callback(lambda _: app.sees(2, "empty"), [Basic.GetEmpty])


def cancelled_by_the_broker(app: App) -> None:
    def cancelled(frame: Any) -> None:
        app.log.note(frame.method)
        app.running.done()

    app.channel.add_on_cancel_callback(cancelled)
    app.channel.basic_consume(app.queue, app.running.fail, callback=lambda _: app.channel.queue_delete(app.queue))


def unknown_tag(app: App) -> None:
    app.send(b"1")

    def closed(channel: Any, reason: BaseException) -> None:
        app.log.note(channel.is_open, reason)
        app.reopen()

    app.channel.add_on_close_callback(closed)
    app.channel.basic_consume(app.queue, lambda channel, *_: channel.basic_ack(7))


def missing_exchange(app: App) -> None:
    def closed(channel: Any, reason: BaseException) -> None:
        app.log.note(reason)
        with app.log.attempt():
            channel.basic_publish("", app.queue, b"late")
        app.reopen()

    app.channel.add_on_close_callback(closed)
    app.log.note(app.channel.basic_publish("no exchange", "", b"1"))


def raising_callback(app: App) -> None:
    app.send(b"1")

    def fail(*_: Any) -> None:
        app.log.append("called")
        raise LookupError("no such order")

    app.running.receive("consume", fail)


def forwarded(app: App) -> None:
    app.send(b"1", message_id="m")
    seen: list[Any] = []

    def forward(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        channel.basic_ack(method.delivery_tag)
        seen.append(body)
        if len(seen) == 2:
            app.sees(1, properties, body)
        else:
            channel.basic_publish("", app.queue, b"2", properties)

    app.channel.basic_consume(app.queue, forward)


WRONG: tuple[tuple[str, tuple[Any, ...], dict[str, Any]], ...] = (
    ("basic_publish", ("", "q"), {}),
    ("basic_publish", ("", "q", b""), {"immediate": True}),
    ("basic_publish", ("", "q", b""), {"properties": {"headers": {}}}),
    ("basic_consume", ("q",), {}),
    ("basic_consume", ("q", "no callback"), {}),
    ("basic_consume", ("q", print), {"on_message_callback": print}),
    ("basic_consume", ("q", print, True), {"auto_ack": False}),
    ("basic_get", ("q",), {}),
    ("basic_get", ("q", None), {}),
    ("basic_get", ("q",), {"on_message_callback": print}),
    ("basic_get", ("q", print, True), {"auto_ack": False}),
    ("confirm_delivery", (), {}),
    ("confirm_delivery", ("no callback",), {}),
    ("basic_ack", (1, False, 1), {}),
    ("basic_reject", (1,), {"multiple": True}),
)


def wrong_arguments(app: App) -> None:
    for name, args, options in WRONG:
        app.log.append(name)
        with app.log.attempt():
            app.log.note(getattr(app.channel, name)(*args, **options))
    app.running.done()


BEHAVIOURS = [
    confirms,
    nacked,
    returned,
    consuming,
    getting,
    getting_nothing,
    cancelled_by_the_broker,
    unknown_tag,
    missing_exchange,
    raising_callback,
    forwarded,
    wrong_arguments,
]


def transcript(behaviour: Behaviour, adapter: type, url: str, headers: str) -> Log:
    """Return all that an application sees."""
    log = Log()
    with log.complete():
        with log.attempt():
            Application(adapter, url, lambda running: behaviour(App(running, headers, log)))
        assert log, "not even connected"
    return log


@functools.cache
def bare_transcript(behaviour: Behaviour, adapter: type, url: str, headers: str) -> Log:
    return transcript(behaviour, adapter, url, headers)


@pytest.mark.parametrize(("condition", "headers"), CONDITIONS, ids=lambda name: name)
@pytest.mark.parametrize("adapter", [pika.SelectConnection, AsyncioConnection])
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_an_application_sees_the_same_with_us_and_without(
    behaviour: Behaviour,
    *,
    adapter: type,
    condition: str,
    headers: str,
    amqp_url: str,
    spans: Spans,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if condition in OFFICIAL and behaviour is wrong_arguments:
        pytest.skip("the errors are those of the official instrumentation's functions")
    bare = bare_transcript(behaviour, adapter, amqp_url, headers)
    with instrumented(condition, PikaInstrumentor(), instrumentation, spans, monkeypatch):
        ours = contextvars.copy_context().run(transcript, behaviour, adapter, amqp_url, headers)
    assert list(ours) == list(bare)
    if condition in {"start", "end"} or behaviour is wrong_arguments:
        faults.expected = faults.counted
