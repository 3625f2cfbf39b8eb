"""An application behaves the same on aio-pika with us and without us, whatever breaks in us: consuming.

The behaviours are those that aio-pika's own tests check (tests/test_amqp.py).
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import pytest

from tests.instrumentation.aio_pika_application import CASES, without_and_with_us

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.instrumentation.aio_pika_application import App, Behaviour
    from tests.instrumentation.conftest import Faults, Spans

pytestmark = pytest.mark.broker


async def callbacks(app: App) -> None:
    """A function, a partial, an object, a bound method and one that is not async: each is called once a message."""
    seen: asyncio.Queue[Any] = asyncio.Queue()

    class Service:
        async def __call__(self, message: Any) -> None:
            await self.work(message)

        async def work(self, message: Any) -> str:
            await message.ack()
            seen.put_nowait(message)
            return "ignored"

    async def function(message: Any) -> None:
        await service.work(message)

    def not_async(message: Any) -> Any:
        seen.put_nowait(message)

    service = Service()
    for callback in (function, functools.partial(service.work), service, service.work, not_async):
        await app.send(b"1", correlation_id="c")
        tag = await app.queue.consume(callback)
        app.log.note(tag, await asyncio.wait_for(seen.get(), 20))
        await app.queue.cancel(tag)
    await app.left()


async def argument_forms(app: App) -> None:
    async def ignore(message: Any) -> None:
        app.log.note(message.consumer_tag, message.processed)

    for args, options in (
        ((ignore, True, False, {}, "tag-1", 5), {}),
        ((), {"callback": ignore, "no_ack": True, "consumer_tag": "tag-2"}),
        ((ignore,), {"no_ack": True, "exclusive": True, "timeout": 5}),
    ):
        app.log.note(tag := await app.queue.consume(*args, **options))
        await app.send(b"1")
        await app.queue.cancel(tag)
    with app.log.attempt():
        await app.queue.consume(ignore, consumer_tag="taken")
        await app.queue.consume(ignore, consumer_tag="taken")


async def unacknowledged(app: App) -> None:
    await app.send(b"1", b"2")

    async def settle(message: Any) -> None:
        for settling in (message.ack, message.nack, message.reject):
            with app.log.attempt():
                await settling()

    await app.consumed(2, settle, no_ack=True)
    await app.left()


async def settlements(app: App) -> None:
    await app.send(*(b"%d" % number for number in range(9)))
    messages = [await app.queue.get() for _ in range(9)]
    await messages[0].ack()
    await messages[2].ack(multiple=True)
    await messages[3].nack()
    await messages[4].nack(requeue=False)
    await messages[6].nack(multiple=True, requeue=False)
    await messages[7].reject()
    await messages[8].reject(requeue=True)
    app.log.note(*((message.processed, message.locked) for message in messages))
    await app.left()


async def settled_twice(app: App) -> None:
    await app.send(b"1", b"2")

    async def settle(message: Any) -> None:
        await (message.ack if message.body == b"1" else message.reject)()
        for again in (message.ack, message.nack, message.reject):
            with app.log.attempt():
                await again()

    await app.consumed(2, settle)
    await app.left()


OPTIONS: tuple[dict[str, bool], ...] = (
    {},
    {"requeue": True},
    {"requeue": True, "reject_on_redelivered": True},
    {"ignore_processed": True},
)


async def process_blocks(app: App) -> None:
    """All ways in which a block can end, with all that it can be told to do then."""

    async def block(message: Any, work: Callable[[Any], Any], **options: Any) -> None:
        with app.log.attempt():
            async with message.process(**options) as inside:
                app.log.note(inside is message)
                await work(message)
        app.log.note(message.processed)

    async def succeed(_: Any) -> None: ...

    async def fail(_: Any) -> None:
        raise LookupError("no such order")

    async def cancel(_: Any) -> None:
        raise asyncio.CancelledError

    async def ack(message: Any) -> None:
        await message.ack()

    for work in (succeed, fail, cancel, ack):
        for options in OPTIONS:
            await app.send(b"1")
            await block(await app.queue.get(), work, **options)
            again = await app.queue.get(fail=False)
            app.log.note(work.__name__, list(options), again is not None)
            if again is not None:
                await block(again, work, **options)
                await app.queue.purge()
    await app.left()


async def raising_callback(app: App) -> None:
    await app.send(b"1", b"2")

    async def fail(message: Any) -> None:
        app.log.append(message.body)
        raise LookupError("no such order")

    await app.channel.set_qos(prefetch_count=2)
    await app.consumed(2, fail)
    app.log.note(app.channel.is_closed)
    await app.left()


async def raising_block(app: App) -> None:
    await app.send(b"1")

    async def fail(message: Any) -> None:
        async with message.process(requeue=True, reject_on_redelivered=True):
            app.log.note(message.body, message.redelivered)
            raise LookupError("no such order")

    await app.consumed(2, fail)
    await app.left()


async def cancelled_callback(app: App) -> None:
    """The callback's task is cancelled in the middle of a message."""
    await app.send(b"1")

    async def wait(message: Any) -> None:
        task: Any = asyncio.current_task()
        task.cancel()
        async with message.process(requeue=True):
            await asyncio.sleep(20)

    await app.consumed(1, wait)
    await app.left()


async def cancelled_consumer(app: App) -> None:
    """A task that loops over a queue is cancelled: once at work, once while it waits."""
    await app.send(b"1", b"2")
    at_work = asyncio.Event()

    async def loop() -> None:
        async with app.queue.iterator() as messages:
            async for message in messages:
                if message.body == b"2":
                    await message.ack()
                    at_work.set()
                    continue
                async with message.process():
                    app.log.append(message.body)

    for wait in (asyncio.sleep(0), at_work.wait()):
        consumer = asyncio.create_task(loop())
        await wait
        consumer.cancel()
        app.log.note(*await asyncio.gather(consumer, return_exceptions=True))
    await app.left()


async def iterator_left(app: App) -> None:
    """A loop is left by break, and what was fetched ahead goes back."""
    await app.send(b"1", b"2", b"3")
    async with app.queue.iterator() as messages:
        async for message in messages:
            app.log.note(message, message.processed)
            await message.ack()
            break
    with app.log.attempt():
        await anext(messages)
    await app.left()


async def iterator_closed(app: App) -> None:
    await app.send(b"1", b"2")
    messages = app.queue.iterator(no_ack=True)
    app.log.note(await anext(messages), messages.consumer_tag is None)
    app.log.note(await anext(messages))
    app.log.note(await messages.close(), await messages.close())
    with app.log.attempt():
        await anext(messages)
    await app.left()


async def iterator_timed_out(app: App) -> None:
    await app.send(b"1")
    with app.log.attempt():
        async with app.queue.iterator(timeout=0.05) as messages:
            async for message in messages:
                app.log.note(message.body)
                await message.ack()
    await app.left()


async def iterator_raising(app: App) -> None:
    await app.send(b"1", b"2")
    with app.log.attempt():
        async with app.queue.iterator() as messages:
            async for message in messages:
                async with message.process(requeue=True):
                    raise LookupError("no such order")
    await app.left()


async def bare_loop(app: App) -> None:
    await app.send(b"1", b"2")
    async for message in app.queue:
        async with message.process():
            app.log.note(message.body)
        if message.body == b"2":
            break
    await app.left()


async def gets(app: App) -> None:
    app.log.note(await app.queue.get(fail=False), await app.queue.get(fail=False, timeout=5, no_ack=True))
    with app.log.attempt():
        await app.queue.get()
    with app.log.attempt():
        await app.queue.get(timeout=-1)
    await app.send(b"1", b"2", b"3")
    app.log.note(await app.queue.get(no_ack=True), await app.queue.get(fail=True, timeout=5))
    getting = asyncio.create_task(app.queue.get())
    await asyncio.sleep(0)
    getting.cancel()
    app.log.note(*await asyncio.gather(getting, return_exceptions=True))
    await app.left()


async def gets_together(app: App) -> None:
    await app.send(b"1", b"2", b"3")
    messages = await asyncio.gather(*(app.queue.get() for _ in range(3)))
    await asyncio.gather(*(message.ack() for message in messages))
    app.log.note(*sorted(message.body for message in messages))
    await app.left()


async def deleted_queue(app: App) -> None:
    async def ignore(_: Any) -> None: ...

    await app.queue.consume(ignore)
    app.log.note(await app.queue.delete(if_unused=False, if_empty=False))
    with app.log.attempt():
        await app.queue.get()


BEHAVIOURS = [
    callbacks,
    argument_forms,
    unacknowledged,
    settlements,
    settled_twice,
    process_blocks,
    raising_callback,
    raising_block,
    cancelled_callback,
    cancelled_consumer,
    iterator_left,
    iterator_closed,
    iterator_timed_out,
    iterator_raising,
    bare_loop,
    gets,
    gets_together,
    deleted_queue,
]


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
