"""An application that uses aio-pika, for the behaviours in test_aio_pika_identical*.py, and its transcript."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import aio_pika
from opentelemetry.instrumentation.aio_pika import AioPikaInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_orders.context import Order, bound
from otel_orders.instrumentation import aio_pika as instrumentation
from tests.instrumentation.transcripts import CONDITIONS, HEADERS, TOO_LONG, Log, instrumented, shown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

    from tests.instrumentation.conftest import Spans

    Behaviour = Callable[["App"], Awaitable[None]]

CASES = [*(("robust", *condition) for condition in CONDITIONS), ("plain", "nothing", "ours")]
CONNECTS: dict[str, Any] = {"plain": aio_pika.connect, "robust": aio_pika.connect_robust}


class App:
    """An application with a channel and a queue.  headers: of its messages, by name; "ours": it sends them itself."""

    def __init__(self, connection: Any, channel: Any, queue: Any, headers: str, log: Log) -> None:
        self.connection, self.channel, self.queue, self.log = connection, channel, queue, log
        self._headers = headers

    async def send(self, *bodies: bytes, **properties: Any) -> None:
        """Put messages into the queue, as the application sends them or as somebody else does."""
        for body in bodies:
            if self._headers == "ours":
                await self.channel.default_exchange.publish(aio_pika.Message(body, **properties), self.queue.name)
            else:
                message = aio_pika.Message(body, headers=HEADERS[self._headers], **properties)
                with suppress_instrumentation():
                    await self.channel.default_exchange.publish(message, self.queue.name)

    async def consumed(self, count: int, callback: Any, **options: Any) -> None:
        """Consume until *callback* has returned, raised or been cancelled *count* times."""
        over = asyncio.Semaphore(0)

        async def counted(message: Any) -> Any:
            try:
                return await callback(message)
            finally:
                asyncio.get_running_loop().call_soon(over.release)

        tag = await self.queue.consume(counted, **options)
        for _ in range(count):
            await asyncio.wait_for(over.acquire(), 20)
        await self.queue.cancel(tag)

    async def left(self) -> None:
        """Close the channel, and write down what is in the queue then: what was not settled, or was requeued."""
        await self.channel.close()
        other = await self.connection.channel()
        queue = await other.get_queue(self.queue.name, ensure=False)
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            self.log.note("left", message.body, message.redelivered)


async def _observed(behaviour: Behaviour, connect: str, url: str, headers: str, log: Log) -> None:
    unhandled: list[Any] = []

    def unhandled_in_the_loop(_: Any, context: dict[str, Any]) -> None:
        if "never retrieved" not in context["message"]:  # told when it is collected, whenever that is
            unhandled.append((context["message"][:30], shown(context.get("exception"))))

    asyncio.get_running_loop().set_exception_handler(unhandled_in_the_loop)
    connection = await CONNECTS[connect](url)
    try:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        with log.attempt():
            await asyncio.wait_for(behaviour(App(connection, channel, queue, headers, log)), 30)
    finally:
        await connection.close()
    log.append(sorted(unhandled, key=repr))


def transcript(behaviour: Behaviour, connect: str, url: str, headers: str) -> Log:
    """Return all that an application sees."""
    log = Log()
    with log.complete():
        asyncio.run(_observed(behaviour, connect, url, headers, log))
    return log


bare_transcript = functools.cache(transcript)
"""Call it only while nothing is instrumented."""


def without_and_with_us(  # noqa: PLR0917 - what its tests are given
    behaviour: Behaviour,
    connect: str,
    condition: str,
    headers: str,
    url: str,
    spans: Spans,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[list[Any], list[Any]]:
    """Return what *behaviour* sees without us, and with us while something is broken or the official one is there."""
    bare = bare_transcript(behaviour, connect, url, headers)
    with (
        instrumented(condition, AioPikaInstrumentor(), instrumentation, spans, monkeypatch),
        bound(Order("4" * TOO_LONG)),
    ):
        ours = transcript(behaviour, connect, url, headers)
    return list(bare), list(ours)
