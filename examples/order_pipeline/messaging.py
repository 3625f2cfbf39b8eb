"""Publish and consume with aio-pika, for the services that run on asyncio.

Publishing is confirmed and mandatory: a message that the broker did not take, or could not route, is an error here
and not a lost order.  A message is acknowledged after the work; one that can never succeed goes to the dead letters.
otel_orders instruments the client library itself; what it cannot know is which messages are worked on together.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Self, TypeVar

import aio_pika
import structlog

from examples.order_pipeline import topology
from examples.order_pipeline.messages import EXCHANGE, OrderMessage, decode
from examples.order_pipeline.retry import RETRY_AFTER, BrokerUnavailableError, is_passing
from otel_orders.instrumentation.batches import batch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

PREFETCH = 8
PUBLISH_WITHIN = 5.0
"""Seconds that the broker has to confirm a message."""
STOP_WITHIN = 10.0
"""Seconds that work under way has to finish when the service stops."""

REFUSALS = (aio_pika.exceptions.AMQPError, aio_pika.exceptions.ChannelInvalidStateError)
"""The latter, which is no AMQPError, comes while the connection is being made again."""

M = TypeVar("M", bound=OrderMessage)
log = structlog.get_logger()


class Broker:
    """One service's connection to RabbitMQ; an async context manager."""

    def __init__(self, amqp_url: str) -> None:
        self._amqp_url = amqp_url
        self._consumers: list[tuple[AbstractQueue, str]] = []
        self._working: set[asyncio.Task[object]] = set()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(topology.declare, self._amqp_url)
        self._connection = await aio_pika.connect_robust(self._amqp_url)
        channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
        await channel.set_qos(prefetch_count=PREFETCH)
        self._exchange = await channel.get_exchange(EXCHANGE)
        self._channel = channel
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for queue, consumer_tag in self._consumers:
            await queue.cancel(consumer_tag)
        if self._working:
            await asyncio.wait(self._working, timeout=STOP_WITHIN)
        await self._connection.close()

    async def publish(self, message: OrderMessage) -> None:
        """Publish *message*.  Raises BrokerUnavailableError where the broker does not take it or cannot route it."""
        envelope = aio_pika.Message(
            message.encode(), content_type="application/json", delivery_mode=aio_pika.DeliveryMode.PERSISTENT
        )
        try:
            async with asyncio.timeout(PUBLISH_WITHIN):
                await self._exchange.publish(envelope, routing_key=message.routing_key, mandatory=True)
        except (*REFUSALS, ConnectionError, TimeoutError) as error:
            raise BrokerUnavailableError(f"{message.routing_key} was not published: {type(error).__name__}") from error

    async def consume(self, queue: str, kind: type[M], work: Callable[[M], Awaitable[None]]) -> None:
        """Call *work* with each message of *queue*, decoded as *kind*."""

        async def settle(message: AbstractIncomingMessage) -> None:
            await _settle(message, kind, work)

        await self._subscribe(queue, settle)

    async def consume_together(self, queue: str, kind: type[M], work: Callable[[M], Awaitable[None]]) -> None:
        """Do the same with messages that come in bursts: those that came while *work* was busy are one batch.

        A batch has one span, linked to all its messages; each is worked on in its own order, and settled by itself.
        """
        waiting: list[AbstractIncomingMessage] = []
        one_at_a_time = asyncio.Lock()

        async def settle_all() -> None:
            together = waiting.copy()
            waiting.clear()
            with batch(together, queue) as each:
                for message in each:
                    await _settle(message, kind, work)

        async def take(message: AbstractIncomingMessage) -> None:
            waiting.append(message)
            async with one_at_a_time:
                if waiting:  # else the batch before had this message too
                    # Not in our context: that is the message's, and the batch belongs to all of them.
                    await asyncio.create_task(settle_all(), context=Context())

        await self._subscribe(queue, take)

    async def _subscribe(self, queue: str, settle: Callable[[AbstractIncomingMessage], Awaitable[None]]) -> None:
        async def on_message(message: AbstractIncomingMessage) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._working.add(task)
            try:
                await settle(message)
            finally:
                self._working.discard(task)

        source = await self._channel.get_queue(queue)
        self._consumers.append((source, await source.consume(on_message)))


async def _settle(message: AbstractIncomingMessage, kind: type[M], work: Callable[[M], Awaitable[None]]) -> None:
    try:
        await work(decode(message.body, kind))
    except Exception as error:
        again = is_passing(error)
        log.exception("message failed", again=again)
        await asyncio.sleep(RETRY_AFTER if again else 0)
        await message.reject(requeue=again)
    else:
        await message.ack()
