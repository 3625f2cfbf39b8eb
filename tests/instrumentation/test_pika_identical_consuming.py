"""An application behaves the same on a BlockingConnection with us and without us, whatever breaks in us: consuming.

The behaviours are those that pika's own acceptance tests check (tests/acceptance/blocking_adapter_test.py).
"""

from __future__ import annotations

import functools
import inspect
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.instrumentation.pika_application import without_and_with_us
from tests.instrumentation.transcripts import CONDITIONS

if TYPE_CHECKING:
    from tests.instrumentation.conftest import Faults, Spans
    from tests.instrumentation.pika_application import App, Behaviour

pytestmark = pytest.mark.broker


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
    for callback in (service.work, functools.partial(service.work), service, service.__call__):
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

    def work(channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
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


def unknown_tag(app: App) -> None:
    app.send(b"1")
    app.consume(lambda channel, method, *_: channel.basic_ack(method.delivery_tag + 7))
    with app.log.attempt():
        app.channel.start_consuming()
    app.log.note(app.channel.is_open)
    app.left()


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


BEHAVIOURS = [
    generator,
    generator_cancelled,
    generator_thrown_into,
    generator_of_a_deleted_queue,
    generator_with_other_parameters,
    callbacks,
    argument_forms,
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
    unknown_tag,
    forwarded,
]


@pytest.mark.parametrize(("condition", "headers"), CONDITIONS, ids=lambda name: name)
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_an_application_sees_the_same_with_us_and_without(
    behaviour: Behaviour,
    *,
    condition: str,
    headers: str,
    amqp_url: str,
    spans: Spans,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare, ours = without_and_with_us(behaviour, condition, headers, amqp_url, spans, monkeypatch)
    assert ours == bare
    if condition in {"start", "end"}:
        faults.expected = faults.counted
