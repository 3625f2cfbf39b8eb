"""Instrument pika's BlockingConnection: publishing, and all three ways to consume.

``basic_consume`` callbacks and the body of a ``for ... in channel.consume()`` loop run inside the process span.  A
message from ``basic_get`` is in process until the channel's next ``basic_get``, or until the application holds neither
its method nor its properties any more.  Knows nothing of payloads and settles nothing.
"""

from __future__ import annotations

import atexit
import copy
import functools
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pika import BasicProperties
from pika.adapters.blocking_connection import BlockingChannel

from otel_orders.instrumentation.amqp import (
    DEFAULT,
    FAULT,
    Message,
    Processing,
    Propagation,
    Sending,
    end_dropped,
    size_of,
)
from otel_orders.instrumentation.patching import Patches
from otel_orders.instrumentation.spans import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    Wrapped = Callable[..., Any]
    Delivery = tuple[Any, Any, Any]
    """method, properties and body; None three times where there is no message."""

_patches = Patches()
_NOTHING: AbstractContextManager[None] = nullcontext()


class _Active:
    """What instrument() was told last; consumers that are already running follow it."""

    propagation = DEFAULT


def instrument(propagation: Propagation = DEFAULT) -> None:
    """Trace every BlockingChannel of this process, by *propagation*.  Harmless when it is done already."""
    _Active.propagation = propagation
    _patches.apply(
        (
            (BlockingChannel, "basic_publish", _publish),
            (BlockingChannel, "basic_consume", _consume_by_callback),
            (BlockingChannel, "consume", _consume_by_generator),
            (BlockingChannel, "basic_get", _get),
        )
    )
    atexit.register(end_dropped)


def uninstrument() -> None:
    """Put pika's own methods back.  Consumers that are already running go on untraced."""
    _patches.restore()
    end_dropped()
    atexit.unregister(end_dropped)


def _publish(wrapped: Wrapped, _channel: BlockingChannel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    prepared = guarded(FAULT, _prepared, *args, **kwargs) if _patches.active else None
    if prepared is None:
        return wrapped(*args, **kwargs)
    sending, arguments = prepared
    with sending:
        return wrapped(**arguments)


def _prepared(
    exchange: str, routing_key: str, body: Any, properties: Any = None, mandatory: bool = False
) -> tuple[Sending, dict[str, Any]]:
    """Return the sending, and basic_publish's arguments with a copy of the properties that carries it."""
    outgoing = BasicProperties() if properties is None else copy.copy(properties)
    sending = Sending(_message(exchange, routing_key, "", outgoing, body))
    outgoing.headers = sending.headers
    arguments = {"exchange": exchange, "routing_key": routing_key, "body": body, "properties": outgoing}
    return sending, arguments | {"mandatory": mandatory}


def _consume_by_callback(
    wrapped: Wrapped, _channel: BlockingChannel, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    traced = guarded(FAULT, _with_traced_callback, *args, **kwargs) if _patches.active else None
    return wrapped(*args, **kwargs) if traced is None else wrapped(*traced[0], **traced[1])


def _with_traced_callback(
    queue: str, on_message_callback: Any, *args: Any, **kwargs: Any
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return basic_consume's arguments with the callback inside the process span; None: leave the call to pika."""
    if not callable(on_message_callback):
        return None

    @functools.wraps(on_message_callback)
    def traced(channel: Any, method: Any, properties: Any, body: Any) -> Any:
        with guarded(FAULT, _processing, queue, method, properties, body) or _NOTHING:
            return on_message_callback(channel, method, properties, body)

    return (queue, traced, *args), kwargs


def _consume_by_generator(
    wrapped: Wrapped, _channel: BlockingChannel, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    deliveries = wrapped(*args, **kwargs)
    return _stepped(deliveries, _queue(*args, **kwargs)) if _patches.active else deliveries


def _stepped(deliveries: Generator[Delivery, None, None], queue: str) -> Generator[Delivery, None, None]:
    for delivery in deliveries:
        with guarded(FAULT, _step, queue, *delivery) or _NOTHING:
            yield delivery


_got: WeakKeyDictionary[BlockingChannel, Processing] = WeakKeyDictionary()
"""The message that each channel's last basic_get returned."""


def _get(wrapped: Wrapped, channel: BlockingChannel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if (last := _got.pop(channel, None)) is not None:
        last.leave()
    delivery = wrapped(*args, **kwargs)
    processing = guarded(FAULT, _step, _queue(*args, **kwargs), *delivery)
    if processing is not None:
        _got[channel] = processing
        guarded(FAULT, processing.until_dropped, *delivery[:2])
    return delivery


def _queue(queue: str, *_args: Any, **_kwargs: Any) -> str:
    return queue


def _step(queue: str, method: Any, properties: Any, body: Any) -> Processing | None:
    """Begin the processing of a message that the application asked for; None where none came."""
    return None if method is None else _processing(queue, method, properties, body, ambient=True)


def _processing(queue: str, method: Any, properties: Any, body: Any, *, ambient: bool = False) -> Processing | None:
    if not _patches.active:
        return None
    message = _message(method.exchange, method.routing_key, queue, properties, body)
    return Processing(message, _Active.propagation, ambient=ambient)


def _message(exchange: str, routing_key: str, queue: str, properties: BasicProperties, body: Any) -> Message:
    return Message(
        exchange=exchange,
        routing_key=routing_key,
        headers=properties.headers,
        queue=queue,
        message_id=properties.message_id,
        conversation_id=properties.correlation_id,
        body_size=size_of(body),
    )
