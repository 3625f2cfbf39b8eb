"""An application behaves the same on a BlockingConnection with us and without us, whatever goes wrong in us.

The behaviours are those that pika's own acceptance tests check (tests/acceptance/blocking_adapter_test.py).
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import threading
from typing import TYPE_CHECKING, Any
from unittest import mock

import pika
import pytest
from opentelemetry.instrumentation.pika import PikaInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from pika.adapters.blocking_connection import BlockingChannel

from otel_orders.context import Order, bound
from otel_orders.instrumentation import pika as instrumentation
from tests.instrumentation.transcripts import CONDITIONS, HEADERS, OFFICIAL, Log, instrumented

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.instrumentation.conftest import Faults, Spans

pytestmark = pytest.mark.broker

FULL = {"x-max-length": 1, "x-overflow": "reject-publish"}


class App:
    """An application with a channel and a queue.  headers: names those of its messages; "ours": it sends them itself."""

    def __init__(self, connection: pika.BlockingConnection, headers: str, log: Log) -> None:
        self.connection, self.log, self._headers = connection, log, headers
        self.channel = connection.channel()
        self.queue: str = self.channel.queue_declare("", exclusive=True).method.queue

    def send(self, *bodies: bytes, **properties: Any) -> None:
        """Put messages into the queue, as the application sends them or as somebody else does."""
        for body in bodies:
            if self._headers == "ours":
                self.channel.basic_publish("", self.queue, body, pika.BasicProperties(**properties))
            else:
                own = pika.BasicProperties(headers=HEADERS[self._headers], **properties)
                with suppress_instrumentation():
                    self.channel.basic_publish("", self.queue, body, own)

    def take(self, *, on: BlockingChannel | None = None, auto_ack: bool = False) -> Any:
        return (on or self.channel).basic_get(self.queue, auto_ack)

    def consume(self, *callbacks: Callable[..., Any], **options: Any) -> list[str]:
        return [self.channel.basic_consume(self.queue, callback, **options) for callback in callbacks]

    def left(self) -> None:
        """Close the channel, and write down what is in the queue then: what was not settled, or was requeued."""
        if self.channel.is_open:
            self.channel.close()
        other = self.connection.channel()
        while (delivery := self.take(on=other, auto_ack=True))[0] is not None:
            self.log.note("left", delivery[2], delivery[0].redelivered, delivery[0].message_count)


def confirms(app: App) -> None:
    app.channel.confirm_delivery()
    app.log.note(app.channel.basic_publish("", app.queue, b"1"))
    app.log.note(app.channel.basic_publish("", app.queue, "text", mandatory=True))
    app.log.note(app.channel.basic_publish(exchange="", routing_key=app.queue, body=b"", properties=None))
    app.left()


def unroutable(app: App) -> None:
    app.channel.confirm_delivery()
    for number in range(2):
        try:
            app.channel.basic_publish("", "nowhere", b"%d" % number, pika.BasicProperties(headers={"own": 1}), True)
        except pika.exceptions.UnroutableError as error:
            app.log.note(error, str(error)[:20], error.messages)
    app.send(b"routable")
    app.left()


def nacked(app: App) -> None:
    app.channel.confirm_delivery()
    full = app.channel.queue_declare("", exclusive=True, arguments=FULL).method.queue
    app.channel.basic_publish("", full, b"1")
    try:
        app.channel.basic_publish("", full, b"2", pika.BasicProperties(message_id="m"), mandatory=True)
    except pika.exceptions.NackError as error:
        app.log.note(error, error.messages)
    app.channel.basic_publish("", app.queue, b"3")
    app.left()


def missing_exchange(app: App) -> None:
    app.channel.confirm_delivery()
    with app.log.attempt():
        app.channel.basic_publish("no exchange", "", b"1")
    app.log.note(app.channel.is_open, app.connection.is_open)
    with app.log.attempt():
        app.channel.basic_publish("", app.queue, b"2")
    with app.log.attempt():
        app.channel.basic_get(app.queue)


def missing_exchange_unconfirmed(app: App) -> None:
    app.log.note(app.channel.basic_publish("no exchange", "", b"1"))
    with app.log.attempt():
        app.connection.process_data_events(1)
    with app.log.attempt():
        app.channel.queue_declare("", exclusive=True)


def returned(app: App) -> None:
    app.channel.add_on_return_callback(app.log.note)
    app.channel.basic_publish("", "nowhere", b"1", pika.BasicProperties(app_id="shop", timestamp=10**9), mandatory=True)
    app.channel.basic_publish("", "nowhere", b"2", mandatory=True)
    app.channel.basic_publish("", "nowhere", b"3")
    app.channel.queue_purge(app.queue)
    app.connection.process_data_events()


def generator(app: App) -> None:
    app.send(b"1", b"2", b"3", b"4")
    app.channel.basic_qos(prefetch_count=3)
    for delivery in app.channel.consume(app.queue, inactivity_timeout=0.05):
        app.log.note(*delivery)
        if delivery[0] is None:
            break
        if delivery[0].delivery_tag == 1:
            app.channel.basic_ack(1)
        app.log.note(app.channel.get_waiting_message_count() if delivery[0].delivery_tag == 4 else None)
    app.log.note(app.channel.cancel(), app.channel.consumer_tags)
    app.left()


def generator_cancelled(app: App) -> None:
    app.send(b"1", b"2", b"3")
    for delivery in app.channel.consume(app.queue):
        app.log.note(*delivery)
        while app.channel.get_waiting_message_count() < 2:
            app.connection.process_data_events(1)
        break
    app.log.note(app.channel.cancel(), app.channel.cancel())
    app.left()


def generator_thrown_into(app: App) -> None:
    app.send(b"1", b"2")
    deliveries = app.channel.consume(app.queue, auto_ack=True)
    app.log.note(next(deliveries)[2], inspect.isgenerator(deliveries))
    with app.log.attempt():
        deliveries.throw(KeyError("thrown"))
    app.log.note(next(deliveries, "over"))
    with app.log.attempt():
        next(app.channel.consume(app.queue))
    app.channel.cancel()


def generator_of_a_deleted_queue(app: App) -> None:
    app.send(b"1")
    for delivery in app.channel.consume(app.queue, auto_ack=True):
        app.log.note(*delivery)
        app.channel.queue_delete(app.queue)
    app.log.note(app.channel.cancel())


def generator_with_other_parameters(app: App) -> None:
    app.send(b"1")
    app.log.note(next(app.channel.consume(app.queue, True, False))[2])
    with app.log.attempt():
        next(app.channel.consume(app.queue, False))
    app.log.note(next(app.channel.consume(queue=app.queue, auto_ack=True, inactivity_timeout=0.01)))
    app.channel.cancel()


def get(app: App) -> None:
    app.log.note(app.take(), app.take(auto_ack=True))
    app.send(b"1", b"2", b"3", content_type="text/plain", correlation_id="c", priority=3)
    app.log.note(app.channel.basic_get(app.queue))
    app.log.note(app.channel.basic_get(queue=app.queue, auto_ack=True))
    app.log.note(app.take())
    app.channel.basic_ack(0, multiple=True)
    app.left()


def settlements(app: App) -> None:
    """Each way to settle, by position and by name, several times over."""
    channel = app.channel
    app.send(*(b"%d" % number for number in range(12)))
    tags = [app.take()[0].delivery_tag for _ in range(12)]
    channel.basic_ack(tags[0])
    channel.basic_ack(delivery_tag=tags[2], multiple=True)
    channel.basic_nack(tags[3])
    channel.basic_nack(tags[4], False, False)
    channel.basic_nack(delivery_tag=tags[6], multiple=True, requeue=False)
    channel.basic_reject(tags[7])
    channel.basic_reject(tags[8], False)
    channel.basic_reject(delivery_tag=tags[9], requeue=True)
    channel.basic_nack(0, multiple=True)
    app.left()


def settled_twice(app: App) -> None:
    app.send(b"1", b"2")
    tag = app.take()[0].delivery_tag
    app.channel.basic_ack(tag)
    app.channel.basic_ack(tag)
    with app.log.attempt():
        app.connection.process_data_events(1)
        app.take()
    app.log.note(app.channel.is_open, app.connection.is_open)
    app.left()


def unknown_tag(app: App) -> None:
    app.send(b"1")
    app.consume(lambda channel, method, *_: channel.basic_ack(method.delivery_tag + 7))
    with app.log.attempt():
        app.channel.start_consuming()
    app.log.note(app.channel.is_open)
    app.left()


def callbacks(app: App) -> None:
    """A function, a partial, an object and a bound method: what each is called with, and how often."""

    class Service:
        def __call__(self, *received: Any) -> None:
            self.work(*received)

        def work(self, channel: Any, method: Any, properties: Any, body: bytes) -> str:
            app.log.note(channel is app.channel, method, properties, body)
            channel.basic_ack(method.delivery_tag)
            channel.stop_consuming()
            return "ignored"

    service = Service()
    for callback in (service.work, functools.partial(service.work), service, lambda *received: service(*received)):
        app.send(b"1", reply_to="here")
        app.channel.basic_consume(app.queue, callback)
        app.channel.start_consuming()
    app.left()


def argument_forms(app: App) -> None:
    consume = app.channel.basic_consume
    ack = lambda channel, *_: channel.stop_consuming()  # noqa: E731
    for args, options in (
        ((app.queue, ack), {}),
        ((app.queue, ack, True), {}),
        ((app.queue, ack, True, True, "tag-1", {}), {}),
        ((app.queue,), {"on_message_callback": ack, "auto_ack": True}),
        ((), {"queue": app.queue, "on_message_callback": ack, "consumer_tag": "tag-2", "exclusive": False}),
        ((app.queue,), {"auto_ack": True, "on_message_callback": ack, "arguments": None}),
    ):
        app.send(b"1")
        app.log.note(consume(*args, **options))
        app.channel.start_consuming()
    app.left()


WRONG: tuple[tuple[str, tuple[Any, ...], dict[str, Any]], ...] = (
    ("basic_publish", (), {}),
    ("basic_publish", ("", "q"), {}),
    ("basic_publish", ("", "q", b""), {"immediate": True}),
    ("basic_publish", ("", "q", b"", None, False, 1), {}),
    ("basic_publish", (None, "q", b""), {}),
    ("basic_publish", ("", 7, b""), {}),
    ("basic_publish", ("", "q", None), {}),
    ("basic_publish", ("", "q", b""), {"properties": {"headers": {}}}),
    ("basic_publish", ("", "q", b""), {"properties": pika.BasicProperties(headers={"odd": object()})}),
    ("basic_publish", ("", "q", b""), {"properties": pika.BasicProperties(headers=[("a", 1)])}),
    ("basic_publish", ("", "q", b""), {"properties": pika.BasicProperties(headers={7: "a"})}),
    ("basic_publish", ("", "q", b""), {"properties": pika.BasicProperties(message_id=7)}),
    ("basic_consume", (), {}),
    ("basic_consume", ("q",), {}),
    ("basic_consume", ("q", None), {}),
    ("basic_consume", ("q", "no callback"), {}),
    ("basic_consume", ("q",), {"callback": print}),
    ("basic_consume", ("q", print), {"on_message_callback": print}),
    ("basic_consume", ("q", print, True), {"auto_ack": False}),
    ("basic_consume", ("q", print), {"auto_ack": "yes"}),
    ("basic_consume", ("q", print), {"no_ack": True}),
    ("basic_consume", (7, print), {}),
    ("basic_get", (), {}),
    ("basic_get", ("q", False, 1), {}),
    ("basic_get", (7,), {}),
    ("consume", (), {}),
    ("consume", ("q",), {"no_ack": True}),
    ("basic_ack", ("one",), {}),
    ("basic_ack", (-1,), {}),
    ("basic_ack", (1, False, 1), {}),
    ("basic_nack", (1,), {"requeued": True}),
    ("basic_reject", (), {}),
    ("confirm_delivery", (1,), {}),
)


def wrong_arguments(app: App) -> None:
    for name, args, options in WRONG:
        app.log.append(name)
        channel = app.connection.channel()
        with app.log.attempt():
            app.log.note(getattr(channel, name)(*args, **options))
            app.connection.process_data_events()


def own_properties(app: App) -> None:
    """What the application hands over is neither changed nor replaced, and may be used again."""
    headers: dict[str, Any] = {"own": {"nested": None}}
    own = pika.BasicProperties(headers=headers, message_id="m")
    before = dict(vars(own))
    for _ in range(2):
        app.channel.basic_publish("", app.queue, b"1", own)
    app.log.note(vars(own) == before, own.headers is headers, headers == {"own": {"nested": None}})
    bare = pika.BasicProperties()
    app.channel.basic_publish("", app.queue, b"2", properties=bare)
    app.log.note(bare == pika.BasicProperties(), bare.headers is None, bare.timestamp is None)
    for _ in range(3):
        app.log.note(*app.take(auto_ack=True))


def foreign_headers(app: App) -> None:
    """What somebody else has put into the headers is handed out as it came."""
    for headers in HEADERS.values():
        with suppress_instrumentation():
            app.channel.basic_publish("", app.queue, b"1", pika.BasicProperties(headers=headers))
    app.log.extend(repr(app.take(auto_ack=True)[1]) for _ in HEADERS)


def forwarded(app: App) -> None:
    """A message is sent on, with the properties that it came with."""
    app.send(b"1", message_id="m")
    other = app.channel.queue_declare("", exclusive=True).method.queue

    def forward(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        channel.basic_publish("", other, body, properties)
        channel.basic_ack(method.delivery_tag)
        channel.stop_consuming()

    app.consume(forward)
    app.channel.start_consuming()
    app.log.note(*app.channel.basic_get(other, auto_ack=True)[1:])


def raising_callback(app: App) -> None:
    app.send(b"1", b"2")

    def fail(_channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        app.log.append(body)
        raise LookupError("no such order", body)

    app.consume(fail)
    with app.log.attempt():
        app.channel.start_consuming()
    app.log.note(app.channel.is_open, app.connection.is_open, len(app.channel.consumer_tags))
    app.left()


def interrupted_callback(app: App) -> None:
    app.send(b"1")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    app.consume(interrupt, auto_ack=True)
    with app.log.attempt():
        app.channel.start_consuming()
    app.left()


def raising_loop(app: App) -> None:
    app.send(b"1", b"2")
    with app.log.attempt():
        for delivery in app.channel.consume(app.queue):
            app.log.note(*delivery)
            raise LookupError("no such order")
    app.log.note(app.channel.is_open)
    app.left()


def cancel_in_a_callback(app: App) -> None:
    app.send(b"1", b"2", b"3")
    app.channel.basic_qos(prefetch_count=1)

    def cancel(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        app.log.note(body, channel.basic_cancel(method.consumer_tag))
        channel.basic_ack(method.delivery_tag)

    app.consume(cancel)
    app.channel.start_consuming()
    app.log.note(app.channel.consumer_tags)
    app.left()


def close_in_a_callback(app: App) -> None:
    app.send(b"1", b"2")

    def close(channel: Any, *_: Any) -> None:
        app.log.note(channel.close())

    app.consume(close)
    with app.log.attempt():
        app.channel.start_consuming()
    app.log.note(app.channel.is_open)
    app.left()


def close_the_connection_in_a_callback(app: App) -> None:
    app.send(b"1")
    app.consume(lambda *_: app.connection.close())
    with app.log.attempt():
        app.channel.start_consuming()
    app.log.note(app.channel.is_open, app.connection.is_open)
    with app.log.attempt():
        app.channel.basic_publish("", app.queue, b"late")


def publish_in_a_callback(app: App) -> None:
    app.channel.confirm_delivery()
    app.send(b"1")

    def answer(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        app.log.note(properties, body)
        if body == b"2":
            channel.stop_consuming()
        else:
            channel.basic_publish("", app.queue, b"2", mandatory=True)
        channel.basic_ack(method.delivery_tag)

    app.consume(answer)
    app.channel.start_consuming()
    app.left()


def nested_consuming(app: App) -> None:
    app.send(b"1")

    def nest(channel: Any, *_: Any) -> None:
        with app.log.attempt():
            channel.start_consuming()
        with app.log.attempt():
            app.connection.process_data_events()
        app.log.note(channel.basic_get(app.queue))
        channel.stop_consuming()

    app.consume(nest, auto_ack=True)
    app.channel.start_consuming()


def deleted_queue(app: App) -> None:
    app.send(b"1")
    app.channel.add_on_cancel_callback(lambda frame: app.log.note(frame.method))
    app.consume(lambda channel, *_: channel.queue_delete(app.queue), auto_ack=True)
    app.log.note(app.channel.start_consuming(), app.channel.consumer_tags)


def two_consumers(app: App) -> None:
    app.send(b"1", b"2")
    app.channel.basic_qos(prefetch_count=1)
    seen: list[bytes] = []

    def work(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        seen.append(body)
        if len(seen) == 2:
            channel.stop_consuming()

    app.consume(work, work)
    app.channel.start_consuming()
    app.log.note(sorted(seen))
    app.left()


def events(app: App) -> None:
    app.send(b"1", b"2")
    seen: list[bytes] = []
    app.consume(lambda *received: seen.append(received[3]), auto_ack=True)
    app.connection.call_later(0.01, lambda: app.log.append("later"))
    while len(seen) < 2 or not app.log:
        app.connection.process_data_events(time_limit=1)
    app.log.note(seen)
    app.connection.sleep(0.001)


def two_threads(app: App) -> None:
    """A callback hands its message to a thread, which has it settled in the connection's own."""
    app.send(b"1", b"2", b"3")
    workers: list[threading.Thread] = []

    def settle(channel: Any, tag: int) -> None:
        channel.basic_ack(tag) if tag != 2 else channel.basic_nack(tag)
        app.log.append(tag)
        if len(app.log) == 3:
            channel.stop_consuming()

    def work(channel: Any, method: Any, *_: Any) -> None:
        call = functools.partial(settle, channel, method.delivery_tag)
        workers.append(threading.Thread(target=app.connection.add_callback_threadsafe, args=(call,)))
        workers[-1].start()

    app.channel.basic_qos(prefetch_count=1)
    consumer = app.consume(lambda *received: work(*received) if received[1].delivery_tag <= 3 else None)
    app.channel.start_consuming()
    for worker in workers:
        worker.join()
    app.log.note(consumer)
    app.left()


def transaction(app: App) -> None:
    app.channel.tx_select()
    app.channel.basic_publish("", app.queue, b"1")
    app.channel.tx_rollback()
    app.channel.basic_publish("", app.queue, b"2")
    app.log.note(app.channel.tx_commit())
    with app.log.attempt():
        app.channel.confirm_delivery()
    app.left()


def confirm_twice(app: App) -> None:
    app.log.note(app.channel.confirm_delivery(), app.channel.confirm_delivery())
    app.log.note(app.channel.basic_publish("", app.queue, b"1"))


def recovered(app: App) -> None:
    app.send(b"1")
    app.log.note(app.take())
    app.channel.basic_recover(requeue=True)
    app.log.note(app.take())
    app.left()


def bulky(app: App) -> None:
    app.send(b"x" * 300_000)
    app.log.note(*app.take(auto_ack=True))


def inspected(app: App) -> None:
    """A test suite may ask the methods for their signature, stand in for them, or make doubles of the class."""
    for name in ("basic_publish", "basic_consume", "basic_get", "consume", "basic_ack"):
        method = getattr(BlockingChannel, name)
        app.log.note(str(inspect.signature(method)), method.__name__, method.__qualname__, method.__module__)
        app.log.note(inspect.isfunction(method), inspect.ismethod(getattr(app.channel, name)), method.__doc__)
    double = mock.create_autospec(BlockingChannel)
    with app.log.attempt():
        double.basic_publish("exchange")
    with mock.patch.object(BlockingChannel, "basic_publish", autospec=True) as stand_in:
        app.channel.basic_publish("", app.queue, b"1")
    app.log.note(stand_in.call_count, len(stand_in.call_args.args), app.take())


def overridden(app: App) -> None:
    """A subclass sees what the application handed over, and may hand on something else."""

    class Own(BlockingChannel):
        def basic_publish(self, exchange: str, routing_key: str, body: Any, *args: Any, **options: Any) -> Any:
            app.log.note(exchange, body, args, options)
            return super().basic_publish(exchange, routing_key, body + b"!", *args, **options)

        def basic_get(self, queue: str, auto_ack: bool = False) -> Any:
            return ("got", *super().basic_get(queue, auto_ack))

        def basic_consume(self, queue: str, on_message_callback: Any, **options: Any) -> Any:
            app.log.note(on_message_callback is print, options)
            return super().basic_consume(queue, on_message_callback, **options)

    app.channel.__class__ = Own
    app.channel.basic_publish("", app.queue, b"1", pika.BasicProperties(type="order"))
    app.log.note(*app.channel.basic_get(app.queue, True))
    app.log.note(app.channel.basic_consume(app.queue, print))


BEHAVIOURS = [
    confirms,
    unroutable,
    nacked,
    missing_exchange,
    missing_exchange_unconfirmed,
    returned,
    generator,
    generator_cancelled,
    generator_thrown_into,
    generator_of_a_deleted_queue,
    generator_with_other_parameters,
    get,
    settlements,
    settled_twice,
    unknown_tag,
    callbacks,
    argument_forms,
    wrong_arguments,
    own_properties,
    foreign_headers,
    forwarded,
    raising_callback,
    interrupted_callback,
    raising_loop,
    cancel_in_a_callback,
    close_in_a_callback,
    close_the_connection_in_a_callback,
    publish_in_a_callback,
    nested_consuming,
    deleted_queue,
    two_consumers,
    events,
    two_threads,
    transaction,
    confirm_twice,
    recovered,
    bulky,
    inspected,
    overridden,
]

OFFICIAL_DIFFERS = {
    own_properties,  # they write into the application's properties
    foreign_headers,  # they write {} into the application's properties
    forwarded,  # they read headers before us, and raise where one is odd
    inspected,  # they replace the methods of each channel by functions of their own
    overridden,  # a method that is overridden after that is not called
    wrong_arguments,  # the errors are those of their functions
}


def transcript(behaviour: Callable[[App], None], url: str, headers: str) -> Log:
    """Return all that an application sees."""
    log = Log()
    with log.complete():
        connection = pika.BlockingConnection(pika.URLParameters(url))
        app = App(connection, headers, log)
        with log.attempt():
            behaviour(app)
        if connection.is_open:
            with log.attempt():
                connection.close()
    return log


@functools.cache
def bare_transcript(behaviour: Callable[[App], None], url: str, headers: str) -> Log:
    return transcript(behaviour, url, headers)


@pytest.mark.parametrize(("condition", "headers"), CONDITIONS, ids=lambda name: name)
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_an_application_sees_the_same_with_us_and_without(
    behaviour: Callable[[App], None],
    condition: str,
    headers: str,
    amqp_url: str,
    spans: Spans,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if condition in OFFICIAL and behaviour in OFFICIAL_DIFFERS:
        pytest.skip("the official instrumentation itself changes this")
    bare = bare_transcript(behaviour, amqp_url, headers)
    with instrumented(condition, PikaInstrumentor(), instrumentation, spans, monkeypatch), bound(Order("4" * 65_536)):
        ours = contextvars.copy_context().run(transcript, behaviour, amqp_url, headers)
    assert ours == bare
    if condition in {"start", "end"} or behaviour is wrong_arguments:
        faults.expected = faults.counted
