"""Instrument aio-pika 9 and 10: publishing, and all three ways to consume; robust connections and patterns included.

Callbacks of ``Queue.consume`` and the body of an ``async for`` over a queue run inside the process span.  A message
from ``Queue.get`` is in process until it is settled, or until the task asks for the next.  All ends with the task.
Knows nothing of payloads and settles nothing itself.
"""

from __future__ import annotations

import atexit
import copy
import functools
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import wrapt
from aio_pika import Exchange
from aio_pika.exceptions import DeliveryError, PublishError
from aio_pika.message import Message as OwnMessage
from aio_pika.message import ProcessContext
from aio_pika.queue import Queue, QueueIterator
from aio_pika.robust_queue import RobustQueueIterator
from aio_pika.tools import ensure_awaitable
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from opentelemetry.trace import SpanKind

from otel_orders.instrumentation import semconv, settling
from otel_orders.instrumentation.aio_pika_steps import Steps
from otel_orders.instrumentation.amqp import (
    CONFIRMED,
    DEFAULT,
    FAULT,
    NACKED,
    RETURNED,
    TRACING,
    UNCONFIRMED,
    Message,
    Propagation,
    Sending,
    stop_counting,
    tracing,
)
from otel_orders.instrumentation.coexistence import official, official_span
from otel_orders.instrumentation.frames import FRAME_MAX
from otel_orders.instrumentation.patching import Patches
from otel_orders.instrumentation.processing import Processing
from otel_orders.instrumentation.spans import end_dropped, guarded
from otel_orders.instrumentation.tracking import NOTHING as NOT_TRACKED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from aio_pika.abc import AbstractIncomingMessage, AbstractMessage
    from prometheus_client import CollectorRegistry

    from otel_orders.instrumentation.patching import Wrapper
    from otel_orders.instrumentation.tracking import Tracking

    Wrapped = Callable[..., Awaitable[Any]]
    Args = tuple[Any, ...]
    Kwargs = dict[str, Any]
    _Proxy = wrapt.ObjectProxy[Any]
else:
    _Proxy = wrapt.ObjectProxy

_CLIENT = "aio_pika"
_REFUSALS = {PublishError: RETURNED, DeliveryError: NACKED}

_patches = Patches()
_NOTHING: AbstractContextManager[None] = nullcontext()


class _Active:
    """What instrument() was told last; consumers that are already running follow it."""

    tracing = TRACING


def instrument(
    propagation: Propagation = DEFAULT, registry: CollectorRegistry | None = None, tracked: Tracking = NOT_TRACKED
) -> None:
    """Trace every exchange and queue of this process, by *propagation*.  Harmless when done already; the last counts.

    registry: where the metrics go; None for no metrics.  tracked: the queues whose messages are recorded.  Raises
    ValueError where the registry holds other metrics of the same names.
    """
    _Active.tracing = tracing(propagation, registry, tracked, _CLIENT)
    _patches.apply(
        (
            (Exchange, "publish", _publish),
            (Queue, "consume", _consume),
            (Queue, "get", _get),
            (QueueIterator, "__anext__", _next),
            (RobustQueueIterator, "__anext__", _next),
            (QueueIterator, "__aexit__", _leave_iterator),
            (QueueIterator, "close", _close_iterator),
            (ProcessContext, "__aexit__", _leave_process_block),
            (Channel, "basic_ack", _settling(settling.acked)),
            (Channel, "basic_nack", _settling(settling.nacked)),
            (Channel, "basic_reject", _settling(settling.rejected)),
        )
    )
    if theirs := guarded(FAULT, official, _CLIENT, "callback_decorator"):
        _patches.apply([(theirs.CallbackDecorator, "decorate", _decorate)])
    atexit.register(_end_all)


def uninstrument() -> None:
    """Put aio-pika's own methods back.  Consumers that are already running go on untraced."""
    _patches.restore()
    _end_all()
    atexit.unregister(_end_all)
    stop_counting(_CLIENT)


class _Known(NamedTuple):
    """What is kept about a channel of the connection that is in use now."""

    waiting: settling.Waiting
    server: semconv.Server | None


_channels: WeakKeyDictionary[Channel, _Known] = WeakKeyDictionary()


def _known(channel: Any) -> _Known:
    known = _channels.get(channel)
    if known is None:
        url = channel.connection.url
        known = _channels[channel] = _Known(settling.Waiting(), (url.host, url.port or 5672))
        waiting = known.waiting
        channel.closing.add_done_callback(lambda _: waiting.close())
    return known


def _end_all() -> None:
    """End what is still held back: nobody will settle it any more."""
    end_dropped()
    for known in list(_channels.values()):
        known.waiting.close()


def _settling(read: Callable[..., settling.Settlement]) -> Wrapper:
    """Return the wrapper of a method that settles messages, whose arguments *read* understands."""

    async def settle(wrapped: Wrapped, channel: Channel, args: Args, kwargs: Kwargs) -> Any:
        result = await wrapped(*args, **kwargs)
        if (known := _channels.get(channel)) is not None:
            guarded(FAULT, known.waiting.settle_by, read, *args, **kwargs)
        return result

    return settle


class _Outgoing(_Proxy):
    """The application's message with other headers; the message itself stays as it is."""

    def __init__(self, message: AbstractMessage, sending: Sending) -> None:
        super().__init__(message)
        self._self_sending = sending

    @property
    def properties(self) -> Any:
        properties = self.__wrapped__.properties
        if not isinstance(self.__wrapped__, OwnMessage):  # which makes them anew each time; others may keep them
            properties = copy.copy(properties)
        properties.headers = self._self_sending.headers
        properties.message_id = self._self_sending.message_id
        if properties.timestamp is None and (now := self._self_sending.timestamp) is not None:
            properties.timestamp = datetime.fromtimestamp(now, UTC)
        return properties


async def _publish(wrapped: Wrapped, exchange: Exchange, args: Args, kwargs: Kwargs) -> Any:
    prepared = guarded(FAULT, _prepared, exchange, *args, **kwargs) if _patches.active else None
    if prepared is None:
        return await wrapped(*args, **kwargs)
    sending, arguments = prepared
    with sending:
        result = await wrapped(**arguments)
        sending.outcome = _outcome(result)
    return result


def _outcome(result: object) -> str:
    """Return what publish's *result* means."""
    if result is None:
        return UNCONFIRMED
    return RETURNED if isinstance(result, DeliveredMessage) else CONFIRMED


def _prepared(exchange: Exchange, message: AbstractMessage, routing_key: str, **options: Any) -> tuple[Sending, Kwargs]:
    """Return the sending, and publish's arguments with a message that carries it."""
    told = Message(
        exchange.name,
        routing_key,
        message.headers,
        message_id=_Active.tracing.tracking.message_id(exchange.name, routing_key, message.message_id),
        conversation_id=message.correlation_id,
        server=_server(exchange),
    )
    adopted = official_span(_CLIENT, SpanKind.PRODUCER)
    sending = Sending(told, _Active.tracing, refusals=_REFUSALS, adopted=adopted, frame_max=_frame_max(exchange))
    return sending, {"message": _Outgoing(message, sending), "routing_key": routing_key, **options}


def _server(exchange: Exchange) -> semconv.Server | None:
    """Return where *exchange* is; None where the client does not tell."""
    url = getattr(getattr(exchange.channel, "_connection", None), "url", None)
    return None if url is None else (url.host, url.port or 5672)


def _frame_max(exchange: Exchange) -> int:
    """Return the largest frame, in bytes, that the connection of *exchange* agreed on; the usual one if it has none."""
    transport = getattr(getattr(exchange.channel, "_connection", None), "transport", None)
    return FRAME_MAX if transport is None else transport.connection.connection_tune.frame_max


async def _consume(wrapped: Wrapped, queue: Queue, args: Args, kwargs: Kwargs) -> Any:
    traced = guarded(FAULT, _with_traced_callback, queue, *args, **kwargs) if _patches.active else None
    return await (wrapped(*args, **kwargs) if traced is None else wrapped(*traced[0], **traced[1]))


def _with_traced_callback(queue: Queue, callback: Any, *args: Any, **kwargs: Any) -> tuple[Args, Kwargs] | None:
    """Return consume's arguments with the callback inside the process span; None: leave the call to aio-pika."""
    if not callable(callback) or _takes_in(callback) or hasattr(callback, _TRACED):
        return None
    return (_traced(queue, callback), *args), kwargs


_TRACED = "_otel_orders_traced"
"""Marks a callback that is traced already, by us or inside the official instrumentation's own."""


def _takes_in(callback: Any) -> bool:
    """Return whether *callback* only puts a message into an iterator: it is processed when it is handed out."""
    return isinstance(getattr(callback, "__self__", None), QueueIterator)


def _traced(queue: Queue, callback: Any) -> Any:
    """Return *callback*, inside the process span."""
    awaitable = ensure_awaitable(callback)

    @functools.wraps(awaitable)
    async def traced(message: AbstractIncomingMessage) -> Any:
        with guarded(FAULT, _processing, queue, message) or _NOTHING:
            return await awaitable(message)

    setattr(traced, _TRACED, True)
    return traced


def _decorate(wrapped: Any, decorator: Any, args: Args, kwargs: Kwargs) -> Any:
    """Have the official instrumentation decorate what is traced by us; an iterator's intake needs no span at all."""
    decorated = guarded(FAULT, _with_ours_inside, wrapped, decorator, *args, **kwargs) if _patches.active else None
    return wrapped(*args, **kwargs) if decorated is None else decorated


def _with_ours_inside(wrapped: Any, decorator: Any, callback: Any) -> Any:
    if _takes_in(callback):
        return callback
    decorated = wrapped(callback if hasattr(callback, _TRACED) else _traced(decorator._queue, callback))  # noqa: SLF001
    setattr(decorated, _TRACED, True)
    return decorated


_steps = Steps()


async def _get(wrapped: Wrapped, queue: Queue, args: Args, kwargs: Kwargs) -> Any:
    source = guarded(FAULT, _source, queue)
    guarded(FAULT, _steps.end, source)
    message = await wrapped(*args, **kwargs)
    if message is not None:
        guarded(FAULT, _begin, source, queue, message, got=True)
    return message


def _source(queue: Queue) -> Hashable:
    """Return what stands for *queue*: applications ask their channel for it again and again."""
    return (queue.channel, queue.name)


async def _next(wrapped: Wrapped, iterator: QueueIterator, args: Args, kwargs: Kwargs) -> Any:
    guarded(FAULT, _steps.end, iterator)
    message = await wrapped(*args, **kwargs)
    guarded(FAULT, _begin, iterator, iterator._amqp_queue, message, got=False)  # noqa: SLF001 - it has no other name
    return message


def _begin(source: Hashable, queue: Queue, message: AbstractIncomingMessage, *, got: bool) -> None:
    """Begin the processing of *message*, which the current task takes from *source*."""
    processing = _processing(queue, message, step=True, got=got)
    if processing is not None:
        _steps.begin(source, message, processing)


async def _leave_iterator(wrapped: Wrapped, iterator: QueueIterator, args: Args, kwargs: Kwargs) -> Any:
    guarded(FAULT, _steps.end, iterator, *args[1:2])
    return await wrapped(*args, **kwargs)


async def _close_iterator(wrapped: Wrapped, iterator: QueueIterator, args: Args, kwargs: Kwargs) -> Any:
    guarded(FAULT, _steps.end, iterator)
    return await wrapped(*args, **kwargs)


async def _leave_process_block(wrapped: Wrapped, block: ProcessContext, args: Args, kwargs: Kwargs) -> Any:
    """Settle by the block's end; its error is why, and ends what was taken from an iterator or by a get."""
    error = args[1] if len(args) > 1 else None
    source = None if error is None else guarded(FAULT, _steps.blame, block.message, error)
    try:
        return await wrapped(*args, **kwargs)
    finally:
        if source is not None:
            guarded(FAULT, _steps.end, source, error)


def _processing(
    queue: Queue, message: AbstractIncomingMessage, *, step: bool = False, got: bool = False
) -> Processing | None:
    if not _patches.active:
        return None
    waiting, server = _known(message.channel)
    no_ack = bool(message.processed)  # before anybody could settle it
    told = Message(
        message.exchange or "",
        message.routing_key or "",
        message.headers,
        queue=queue.name,
        message_id=message.message_id,
        conversation_id=message.correlation_id,
        server=server,
        timestamp=message.timestamp,
        delivery_tag=message.delivery_tag or 0,
        redelivered=bool(message.redelivered),
        no_ack=no_ack,
    )
    adopted = None if step else official_span(_CLIENT, SpanKind.CONSUMER)
    return Processing(told, _Active.tracing, ambient=step, waiting=waiting, adopted=adopted, got=got)
