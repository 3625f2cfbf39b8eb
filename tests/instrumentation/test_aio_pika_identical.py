"""An application behaves the same on aio-pika with us and without us, whatever breaks in us: publishing, messages.

The behaviours are those that aio-pika's own tests check (tests/test_amqp.py, tests/test_message.py).
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
from typing import TYPE_CHECKING, Any
from unittest import mock

import aio_pika
import pytest
from aio_pika.exceptions import DeliveryError, PublishError
from opentelemetry.instrumentation.utils import suppress_instrumentation

from tests.instrumentation.aio_pika_application import CASES, without_and_with_us
from tests.instrumentation.transcripts import HEADERS, OFFICIAL

if TYPE_CHECKING:
    from tests.instrumentation.aio_pika_application import App, Behaviour
    from tests.instrumentation.conftest import Faults, Spans

pytestmark = pytest.mark.broker

FULL = {"x-max-length": 1, "x-overflow": "reject-publish"}


async def confirms(app: App) -> None:
    exchange, own = app.channel.default_exchange, aio_pika.Message(b"1", message_id="m")
    app.log.note(await exchange.publish(own, app.queue.name))
    app.log.note(await exchange.publish(message=own, routing_key=app.queue.name, mandatory=False, timeout=10))
    unconfirmed = await app.connection.channel(publisher_confirms=False)
    app.log.note(await unconfirmed.default_exchange.publish(own, app.queue.name))
    await unconfirmed.close()
    await app.left()


async def returned(app: App) -> None:
    own = aio_pika.Message(b"1", message_id="m", headers={"own": {"nested": None}}, timestamp=1_000_000_000)
    app.channel.return_callbacks.add(lambda _, message: app.log.note("returned", message))
    app.log.note(await app.channel.default_exchange.publish(own, "nowhere"))
    app.log.note(await app.channel.default_exchange.publish(own, "nowhere", mandatory=False))


async def returned_and_raised(app: App) -> None:
    raising = await app.connection.channel(on_return_raises=True)
    for body in (b"1", b"2"):
        try:
            await raising.default_exchange.publish(aio_pika.Message(body, message_id="m"), "nowhere")
        except PublishError as error:
            app.log.note(error, error.message, error.frame)
    app.log.note(await raising.default_exchange.publish(aio_pika.Message(b"3", message_id="m"), app.queue.name))


async def nacked(app: App) -> None:
    full = await app.channel.declare_queue(exclusive=True, arguments=FULL)
    for _ in range(2):
        try:
            await app.channel.default_exchange.publish(aio_pika.Message(b"1", message_id="m"), full.name)
        except DeliveryError as error:
            app.log.note(error, error.message, error.frame)


async def missing_exchange(app: App) -> None:
    exchange = await app.channel.get_exchange("no exchange", ensure=False)
    with app.log.attempt():
        await exchange.publish(aio_pika.Message(b"1", message_id="m"), "")


async def closed_channel(app: App) -> None:
    other = await app.connection.channel()
    exchange = other.default_exchange
    await other.close()
    with app.log.attempt():
        await exchange.publish(aio_pika.Message(b"1"), app.queue.name)


async def internal_exchange(app: App) -> None:
    internal = await app.channel.declare_exchange("identical.internal", internal=True, auto_delete=True)
    with app.log.attempt():
        await internal.publish(aio_pika.Message(b"1"), "")
    await internal.delete()


async def timed_out(app: App) -> None:
    with app.log.attempt():
        await app.channel.default_exchange.publish(aio_pika.Message(b"1"), app.queue.name, timeout=-1)
    app.log.note(await app.channel.default_exchange.publish(aio_pika.Message(b"1"), app.queue.name, timeout=10))


async def cancelled(app: App) -> None:
    """Cancelled while the broker's answer is awaited."""
    publishing = asyncio.create_task(
        app.channel.default_exchange.publish(aio_pika.Message(b"x" * 200_000), app.queue.name)
    )
    await asyncio.sleep(0)
    publishing.cancel()
    app.log.note(*await asyncio.gather(publishing, return_exceptions=True))


async def transaction(app: App) -> None:
    channel = await app.connection.channel(publisher_confirms=False)
    exchange = channel.default_exchange
    with app.log.attempt():
        async with channel.transaction() as doomed:
            await exchange.publish(aio_pika.Message(b"1"), app.queue.name)
            raise LookupError("no such order")
    async with channel.transaction() as kept:
        app.log.note(await exchange.publish(aio_pika.Message(b"2"), app.queue.name))
    app.log.note(str(doomed), str(kept))
    with app.log.attempt():
        app.channel.transaction()
    await app.left()


async def own_message(app: App) -> None:
    """What the application hands over is neither changed nor locked, and may be used again."""
    headers: dict[str, Any] = {"own": {"nested": None}}
    own = aio_pika.Message(b"1", headers=headers, message_id="m", expiration=60, priority=3)
    before = repr(own), copy.copy(own).info()
    for _ in range(2):
        await app.channel.default_exchange.publish(own, app.queue.name)
    app.log.note((repr(own), own.info()) == before, own.headers is headers, own.locked, own.timestamp)
    own.headers = {"other": 1}
    own.lock()
    await app.channel.default_exchange.publish(own, app.queue.name)
    with app.log.attempt():
        own.headers = {}
    for _ in range(3):
        app.log.note(await app.queue.get(no_ack=True))


async def foreign_message(app: App) -> None:
    """What somebody else has sent is handed out as it came, and does all that a message does."""
    for headers in HEADERS.values():
        with suppress_instrumentation():
            await app.channel.default_exchange.publish(
                aio_pika.Message(b"12", headers=headers, message_id="m", type="order"), app.queue.name
            )
        message = await app.queue.get()
        app.log.note(repr(message), bytes(message), list(message), copy.copy(message).info(), message.processed)
        app.log.note(pickle.loads(pickle.dumps(message.info())) == message.info(), message.body_size)  # noqa: S301
        with app.log.attempt():
            pickle.dumps(message)
        message.headers = {"changed": 1}
        await message.ack()
        app.log.note(message.headers, message.locked, message.processed)
        with app.log.attempt():
            message.headers = {}


async def forwarded(app: App) -> None:
    """A message is sent on as it came."""
    other = await app.channel.declare_queue(exclusive=True)
    await app.send(b"1", message_id="m")
    message = await app.queue.get()
    await app.channel.default_exchange.publish(message, other.name)
    await message.ack()
    app.log.note(await other.get(no_ack=True))
    await app.left()


async def subclasses(app: App) -> None:
    """The methods of a subclass are called with the object itself."""
    seen: list[Any] = []

    class Own(aio_pika.Message):
        __slots__ = ("extra",)

        @property
        def properties(self) -> Any:
            seen.append(type(self))
            found = super().properties
            found.app_id = "own"
            return found

        def __repr__(self) -> str:
            return "own message"

    class Exchange(type(app.channel.default_exchange)):  # type: ignore[misc]
        async def publish(self, message: Any, routing_key: str, **options: Any) -> Any:
            app.log.note(type(message), message is own, options)
            return await super().publish(message, routing_key, **options)

    own = Own(b"1", message_id="m", headers={"own": 1})
    app.channel.default_exchange.__class__ = Exchange
    app.log.note(await app.channel.default_exchange.publish(own, app.queue.name, mandatory=True))
    app.log.note(all(kind is Own for kind in seen), await app.queue.get(no_ack=True))


async def kept_properties(app: App) -> None:
    """A message that is not aio-pika's own, and hands out the same properties each time."""
    kept = aio_pika.Message(b"1", message_id="m", headers={"own": 1}).properties

    class Duck:
        body, headers, properties, message_id, correlation_id = b"1", kept.headers, kept, "m", None

    await app.channel.default_exchange.publish(Duck(), app.queue.name)
    app.log.note(await app.queue.get(no_ack=True), kept.headers == {"own": 1}, kept.timestamp)


async def immediate(app: App) -> None:
    """RabbitMQ closes the connection of whoever asks for it."""
    own = await aio_pika.connect(str(app.connection.url))
    channel = await own.channel()
    with app.log.attempt():
        await channel.default_exchange.publish(aio_pika.Message(b"1", message_id="m"), "q", immediate=True, timeout=10)
    await own.close()


WRONG: tuple[tuple[str, str, tuple[Any, ...], dict[str, Any]], ...] = (
    ("exchange", "publish", (), {}),
    ("exchange", "publish", (aio_pika.Message(b""),), {}),
    ("exchange", "publish", (aio_pika.Message(b""), "q", True), {}),
    ("exchange", "publish", (aio_pika.Message(b""), "q"), {"confirm": True}),
    ("exchange", "publish", (b"body", "q"), {}),
    ("exchange", "publish", (None, "q"), {}),
    ("exchange", "publish", (aio_pika.Message(b""), 7), {}),
    ("exchange", "publish", (aio_pika.Message(b""), "q" * 300), {}),
    ("exchange", "publish", (aio_pika.Message(b"", headers={"odd": object()}), "q"), {}),  # type: ignore[dict-item]
    ("exchange", "publish", (aio_pika.Message(b"", headers=[("a", 1)]), "q"), {}),  # type: ignore[arg-type]
    ("queue", "consume", (), {}),
    ("queue", "consume", (print,), {"auto_ack": True}),
    ("queue", "get", (True,), {}),
    ("queue", "get", (), {"auto_ack": True}),
    ("queue", "iterator", (), {"callback": print}),
)


async def wrong_arguments(app: App) -> None:
    for owner, name, args, options in WRONG:
        app.log.append((owner, name))
        channel = await app.connection.channel(publisher_confirms=False)
        target = channel.default_exchange if owner == "exchange" else await channel.declare_queue(exclusive=True)
        with app.log.attempt():
            found = getattr(target, name)(*args, **options)
            app.log.note(await found if inspect.isawaitable(found) else found)
        if not channel.is_closed:
            await channel.close()


async def bulky(app: App) -> None:
    await app.send(b"x" * 300_000)
    app.log.note(await app.queue.get(no_ack=True))


async def crammed(app: App) -> None:
    """Its headers leave some bytes of their frame, one byte more than there are closes the connection."""
    message = aio_pika.Message(b"1", message_id="m", headers={"x": "y" * 130_980, "own": {"z": [1]}})
    app.log.note(await app.channel.default_exchange.publish(message, app.queue.name))
    await app.left()


async def inspected(app: App) -> None:
    """A test suite may ask the methods for their signature, stand in for them, or make doubles of the classes."""
    for owner, name in ((aio_pika.Exchange, "publish"), (aio_pika.Queue, "consume"), (aio_pika.Queue, "get")):
        method = getattr(owner, name)
        app.log.note(str(inspect.signature(method)), method.__qualname__, method.__module__, method.__doc__)
        app.log.note(inspect.iscoroutinefunction(method), inspect.isfunction(method))
    app.log.note(inspect.iscoroutinefunction(app.queue.consume), inspect.ismethod(app.channel.default_exchange.publish))
    double = mock.create_autospec(aio_pika.Exchange, instance=True)
    with app.log.attempt():
        await double.publish("message")
    app.log.note(type(double.publish), await double.publish("message", "key") is double.publish.return_value)
    with mock.patch.object(aio_pika.Exchange, "publish", autospec=True) as stand_in:
        await app.channel.default_exchange.publish("anything", "at all")
    app.log.note(stand_in.call_count, await app.queue.get(fail=False))


BEHAVIOURS = [
    confirms,
    returned,
    returned_and_raised,
    nacked,
    missing_exchange,
    closed_channel,
    internal_exchange,
    timed_out,
    cancelled,
    transaction,
    own_message,
    foreign_message,
    forwarded,
    subclasses,
    kept_properties,
    immediate,
    wrong_arguments,
    bulky,
    crammed,
    inspected,
]

OFFICIAL_DIFFERS = {
    crammed,  # their headers come on top, and the connection goes
    own_message,  # they write into the application's headers
    kept_properties,  # the same
    wrong_arguments,  # the errors are those of their functions
}


@pytest.mark.parametrize(("connect", "condition", "headers"), CASES, ids=lambda name: name)
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_an_application_sees_the_same_with_us_and_without(
    behaviour: Behaviour,
    *,
    connect: str,
    condition: str,
    headers: str,
    amqp_url: str,
    spans: Spans,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if condition in OFFICIAL and behaviour in OFFICIAL_DIFFERS:
        pytest.skip("the official instrumentation itself changes this")
    bare, ours = without_and_with_us(behaviour, connect, condition, headers, amqp_url, spans, monkeypatch)
    assert ours == bare
    if condition in {"start", "end"} or behaviour in {crammed, wrong_arguments}:
        faults.expected = faults.counted
