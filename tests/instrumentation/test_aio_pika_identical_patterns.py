"""An application behaves the same on aio-pika with us and without us, whatever breaks in us: reconnecting and patterns.

The behaviours are those that aio-pika's own tests check (tests/test_amqp_robust.py, test_rpc.py, test_master.py).
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest
from aio_pika.patterns import RPC, JsonRPC, Master, NackMessage, RejectMessage

from tests.instrumentation.aio_pika_application import CASES, without_and_with_us

if TYPE_CHECKING:
    from tests.instrumentation.aio_pika_application import App, Behaviour
    from tests.instrumentation.conftest import Faults, Spans

pytestmark = pytest.mark.broker


async def reconnected(app: App) -> None:
    """The broker closes the connection: a robust one comes back with its consumer, which gets the unsettled message."""
    own = await aio_pika.connect_robust(str(app.connection.url), reconnect_interval=0.01)
    channel = await own.channel()
    queue = await channel.declare_queue(f"identical-{uuid.uuid4().hex}", auto_delete=False, durable=True)
    seen: asyncio.Queue[Any] = asyncio.Queue()
    reconnected = asyncio.Event()
    own.reconnect_callbacks.add(lambda *_: reconnected.set())

    async def keep_the_first(message: Any) -> None:
        if message.redelivered or message.body != b"1":
            await message.ack()
        seen.put_nowait((message.body, message.redelivered))

    await queue.consume(keep_the_first)
    await channel.default_exchange.publish(aio_pika.Message(b"1"), queue.name)
    app.log.note(await asyncio.wait_for(seen.get(), 20))
    with app.log.attempt():
        other = await own.channel()
        await other.default_exchange.publish(aio_pika.Message(b""), "q", immediate=True)
    await asyncio.wait_for(reconnected.wait(), 20)
    app.log.note(await asyncio.wait_for(seen.get(), 20))
    await channel.default_exchange.publish(aio_pika.Message(b"2"), queue.name)
    app.log.note(await asyncio.wait_for(seen.get(), 20), seen.qsize())
    await queue.delete(if_unused=False, if_empty=False)
    await own.close()


async def calls(app: App, pattern: Any) -> None:
    """Remote calls that succeed, fail, are unknown, expire and are not serializable."""
    rpc = await pattern.create(app.channel)
    prefix = uuid.uuid4().hex

    async def double(*, x: int) -> int:
        return x * 2

    async def fail(**_: Any) -> None:
        raise LookupError("no such order")

    async def odd(**_: Any) -> Any:
        return iter(())  # cannot be sent

    for method in (double, fail, odd):
        await rpc.register(f"{prefix}-{method.__name__}", method, auto_delete=True)
    for name, told in (("double", {"x": 4}), ("double", {}), ("fail", {}), ("odd", {}), ("unknown", {})):
        with app.log.attempt():
            app.log.note(await asyncio.wait_for(rpc.call(f"{prefix}-{name}", told), 20))
    await rpc.unregister(double)
    await rpc.close()


async def remote_calls(app: App) -> None:
    await calls(app, RPC)


async def json_remote_calls(app: App) -> None:
    await calls(app, JsonRPC)


async def workers(app: App) -> None:
    master = Master(app.channel, requeue=False)
    name, done = uuid.uuid4().hex, asyncio.Semaphore(0)

    async def work(*, number: int) -> None:
        app.log.append(number)
        asyncio.get_running_loop().call_soon(done.release)
        if number == 1:
            raise RejectMessage(requeue=False)
        if number == 2:
            raise NackMessage(requeue=False)
        if number == 3:
            raise LookupError("no such order")

    worker = await master.create_worker(name, work, auto_delete=True)
    for number in range(4):
        confirmed = await master.create_task(name, {"number": number})
        await asyncio.wait_for(done.acquire(), 20)
        app.log.note(confirmed)
    app.log.note(await master.create_task("nobody's", {}))
    await worker.close()


BEHAVIOURS = [reconnected, remote_calls, json_remote_calls, workers]


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
    bare, ours = without_and_with_us(behaviour, connect, condition, headers, amqp_url, spans, monkeypatch)
    assert ours == bare
    if condition in {"start", "end"}:
        faults.expected = faults.counted
