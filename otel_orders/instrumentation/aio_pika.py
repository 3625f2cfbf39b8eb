"""Instrument aio-pika 9 and 10: publishing, and all three ways to consume; robust connections and patterns included.

Callbacks of ``Queue.consume`` and the body of an ``async for`` over a queue run inside the process span.  A message
from ``Queue.get`` is in process until it is settled, or until the task asks for the next.  All ends with the task.
Knows nothing of payloads and settles nothing itself.
"""

from __future__ import annotations

import asyncio
import functools
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import wrapt
from aio_pika import Exchange
from aio_pika.message import IncomingMessage, ProcessContext
from aio_pika.queue import Queue, QueueIterator
from aio_pika.robust_queue import RobustQueueIterator
from aio_pika.tools import ensure_awaitable

from otel_orders.instrumentation.amqp import (
    DEFAULT,
    FAULT,
    Message,
    Processing,
    Propagation,
    Sending,
    size_of,
)
from otel_orders.instrumentation.patching import Patches
from otel_orders.instrumentation.spans import guarded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aio_pika.abc import AbstractIncomingMessage, AbstractMessage

    Wrapped = Callable[..., Awaitable[Any]]
    Args = tuple[Any, ...]
    Kwargs = dict[str, Any]
    _Proxy = wrapt.ObjectProxy[Any]
else:
    _Proxy = wrapt.ObjectProxy

_patches = Patches()
_NOTHING: AbstractContextManager[None] = nullcontext()


class _Active:
    """What instrument() was told last; consumers that are already running follow it."""

    propagation = DEFAULT


def instrument(propagation: Propagation = DEFAULT) -> None:
    """Trace every exchange and queue of this process, by *propagation*.  Harmless when it is done already."""
    _Active.propagation = propagation
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
            *((IncomingMessage, name, _settle) for name in ("ack", "nack", "reject")),
        )
    )


def uninstrument() -> None:
    """Put aio-pika's own methods back.  Consumers that are already running go on untraced."""
    _patches.restore()


class _Outgoing(_Proxy):
    """The application's message with other headers; the message itself stays as it is."""

    def __init__(self, message: AbstractMessage, headers: dict[Any, Any]) -> None:
        super().__init__(message)
        self._self_headers = headers

    @property
    def properties(self) -> Any:
        properties = self.__wrapped__.properties
        properties.headers = self._self_headers
        return properties


async def _publish(wrapped: Wrapped, exchange: Exchange, args: Args, kwargs: Kwargs) -> Any:
    prepared = guarded(FAULT, _prepared, exchange.name, *args, **kwargs) if _patches.active else None
    if prepared is None:
        return await wrapped(*args, **kwargs)
    sending, arguments = prepared
    with sending:
        return await wrapped(**arguments)


def _prepared(
    exchange: str, message: AbstractMessage, routing_key: str, **options: Any
) -> tuple[Sending, dict[str, Any]]:
    """Return the sending, and publish's arguments with a message that carries it."""
    sending = Sending(_message(message, exchange, routing_key, ""))
    return sending, {"message": _Outgoing(message, sending.headers), "routing_key": routing_key, **options}


async def _consume(wrapped: Wrapped, queue: Queue, args: Args, kwargs: Kwargs) -> Any:
    traced = guarded(FAULT, _with_traced_callback, queue, *args, **kwargs) if _patches.active else None
    return await (wrapped(*args, **kwargs) if traced is None else wrapped(*traced[0], **traced[1]))


def _with_traced_callback(queue: Queue, callback: Any, *args: Any, **kwargs: Any) -> tuple[Args, Kwargs] | None:
    """Return consume's arguments with the callback inside the process span; None: leave the call to aio-pika."""
    if not callable(callback) or isinstance(getattr(callback, "__self__", None), QueueIterator):
        return None  # an iterator only takes the message in; it is processed when it is handed out
    awaitable = ensure_awaitable(callback)

    @functools.wraps(awaitable)
    async def traced(message: AbstractIncomingMessage) -> Any:
        with guarded(FAULT, _processing, queue, message) or _NOTHING:
            return await awaitable(message)

    return (traced, *args), kwargs


class _Step(NamedTuple):
    message: AbstractIncomingMessage
    processing: Processing


class _Steps:
    """What each task has taken last from each queue or iterator, and is not done with yet."""

    def __init__(self) -> None:
        self._taken: WeakKeyDictionary[asyncio.Task[Any], dict[object, _Step]] = WeakKeyDictionary()

    def begin(self, source: object, queue: Queue, message: AbstractIncomingMessage) -> None:
        """Begin the processing of *message*, which the current task takes from *source*."""
        processing = _processing(queue, message, ambient=True)
        task = asyncio.current_task()
        if processing is None or task is None:
            return
        if task not in self._taken:
            self._taken[task] = {}
            task.add_done_callback(self._end_all)
        self._taken[task][source] = _Step(message, processing)

    def end(self, source: object, error: BaseException | None = None) -> None:
        """End the processing of what the current task has taken from *source*, because of *error* if there is one."""
        step = self._of_current_task().pop(source, None)
        if step is not None:
            step.processing.leave(error)

    def source_of(self, message: object) -> object | None:
        """Return what the current task has taken *message* from, None where it has not or is done with it."""
        return next((source for source, step in self._of_current_task().items() if step.message is message), None)

    def _of_current_task(self) -> dict[object, _Step]:
        task = asyncio.current_task()
        return {} if task is None else self._taken.get(task, {})

    def _end_all(self, task: asyncio.Task[Any]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        for step in self._taken.pop(task, {}).values():
            step.processing.leave(error)


_steps = _Steps()


async def _get(wrapped: Wrapped, queue: Queue, args: Args, kwargs: Kwargs) -> Any:
    guarded(FAULT, _steps.end, queue)
    message = await wrapped(*args, **kwargs)
    if message is not None:
        guarded(FAULT, _steps.begin, queue, queue, message)
    return message


async def _next(wrapped: Wrapped, iterator: QueueIterator, args: Args, kwargs: Kwargs) -> Any:
    guarded(FAULT, _steps.end, iterator)
    message = await wrapped(*args, **kwargs)
    guarded(FAULT, _steps.begin, iterator, iterator._amqp_queue, message)  # noqa: SLF001 - it has no other name
    return message


async def _leave_iterator(wrapped: Wrapped, iterator: QueueIterator, args: Args, kwargs: Kwargs) -> Any:
    guarded(FAULT, _steps.end, iterator, *args[1:2])
    return await wrapped(*args, **kwargs)


async def _close_iterator(wrapped: Wrapped, iterator: QueueIterator, args: Args, kwargs: Kwargs) -> Any:
    guarded(FAULT, _steps.end, iterator)
    return await wrapped(*args, **kwargs)


async def _leave_process_block(wrapped: Wrapped, block: ProcessContext, args: Args, kwargs: Kwargs) -> Any:
    error = args[1] if len(args) > 1 else None
    if error is not None and (source := guarded(FAULT, _steps.source_of, block.message)) is not None:
        guarded(FAULT, _steps.end, source, error)
    return await wrapped(*args, **kwargs)


async def _settle(wrapped: Wrapped, message: IncomingMessage, args: Args, kwargs: Kwargs) -> Any:
    """Settle a message; one that came from ``get`` has nothing else by which its end could be told."""
    result = await wrapped(*args, **kwargs)
    if isinstance(source := guarded(FAULT, _steps.source_of, message), Queue):
        guarded(FAULT, _steps.end, source)
    return result


def _processing(queue: Queue, message: AbstractIncomingMessage, *, ambient: bool = False) -> Processing | None:
    if not _patches.active:
        return None
    told = _message(message, message.exchange or "", message.routing_key or "", queue.name)
    return Processing(told, _Active.propagation, ambient=ambient)


def _message(message: AbstractMessage, exchange: str, routing_key: str, queue: str) -> Message:
    return Message(
        exchange=exchange,
        routing_key=routing_key,
        headers=message.headers,
        queue=queue,
        message_id=message.message_id,
        conversation_id=message.correlation_id,
        body_size=size_of(message.body),
    )
