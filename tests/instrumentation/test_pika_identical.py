"""An application behaves the same on a BlockingConnection with us and without us, whatever breaks in us: publishing.

The behaviours are those that pika's own acceptance tests check (tests/acceptance/blocking_adapter_test.py).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any
from unittest import mock

import pika
import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation
from pika.adapters.blocking_connection import BlockingChannel

from tests.instrumentation.pika_application import without_and_with_us
from tests.instrumentation.transcripts import CONDITIONS, HEADERS, OFFICIAL

if TYPE_CHECKING:
    from tests.instrumentation.conftest import Faults, Spans
    from tests.instrumentation.pika_application import App, Behaviour

pytestmark = pytest.mark.broker

FULL = {"x-max-length": 1, "x-overflow": "reject-publish"}


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


def crammed(app: App) -> None:
    """Its headers leave some bytes of their frame, one byte more than there are closes the connection."""
    app.channel.basic_publish(
        "", app.queue, b"1", pika.BasicProperties(headers={"x": "y" * 130_980, "own": {"z": [1]}})
    )
    app.log.note(app.take())
    app.send(b"2")
    app.left()


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

    class Own(BlockingChannel):  # type: ignore[misc]
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
    get,
    settlements,
    settled_twice,
    wrong_arguments,
    own_properties,
    foreign_headers,
    transaction,
    confirm_twice,
    recovered,
    bulky,
    crammed,
    inspected,
    overridden,
]

OFFICIAL_DIFFERS = {
    crammed,  # their headers come on top, and the connection goes
    own_properties,  # they write into the application's properties
    foreign_headers,  # they write {} into the application's properties
    inspected,  # they replace the methods of each channel by functions of their own
    overridden,  # a method that is overridden after that is not called
    wrong_arguments,  # the errors are those of their functions
}


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
    if condition in OFFICIAL and behaviour in OFFICIAL_DIFFERS:
        pytest.skip("the official instrumentation itself changes this")
    bare, ours = without_and_with_us(behaviour, condition, headers, amqp_url, spans, monkeypatch)
    assert ours == bare
    if condition in {"start", "end"} or behaviour in {crammed, wrong_arguments}:
        faults.expected = faults.counted
