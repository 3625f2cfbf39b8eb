"""Instrument pika's BlockingConnection: publishing, and all three ways to consume.

``basic_consume`` callbacks and the body of a ``for ... in channel.consume()`` loop run inside the process span.  A
message from ``basic_get`` is in process until it is settled, until the channel's next ``basic_get``, or until the
application holds neither its method nor its properties any more.  What the asynchronous adapters have too is in
pika_channel.py.
"""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pika.adapters.blocking_connection import BlockingChannel

from otel_orders.instrumentation.amqp import (
    CONFIRMED,
    DEFAULT,
    FAULT,
    Propagation,
    stop_counting,
    tracing,
)
from otel_orders.instrumentation.coexistence import official, silenced
from otel_orders.instrumentation.pika_channel import (
    CLIENT,
    NOTHING,
    Active,
    by_callback,
    end_waiting,
    patches,
    prepare,
    process,
    wrappers,
)
from otel_orders.instrumentation.spans import end_dropped, guarded
from otel_orders.instrumentation.tracking import NOTHING as NOT_TRACKED

if TYPE_CHECKING:
    from collections.abc import Generator

    from prometheus_client import CollectorRegistry

    from otel_orders.instrumentation.pika_channel import Args, Kwargs, Wrapped
    from otel_orders.instrumentation.processing import Processing
    from otel_orders.instrumentation.tracking import Tracking

    Delivery = tuple[Any, Any, Any]
    """method, properties and body; None three times where there is no message."""


def instrument(
    propagation: Propagation = DEFAULT, registry: CollectorRegistry | None = None, tracked: Tracking = NOT_TRACKED
) -> None:
    """Trace every channel of this process, by *propagation*.  Harmless when it is done already; the last call counts.

    registry: where the metrics go; None for no metrics.  tracked: the queues whose messages are recorded.  Raises
    ValueError where the registry holds other metrics of the same names.
    """
    Active.tracing = tracing(propagation, registry, tracked, CLIENT)
    patches.apply(
        (
            (BlockingChannel, "basic_publish", _publish),
            (BlockingChannel, "basic_consume", _consume),
            (BlockingChannel, "consume", _consume_by_generator),
            (BlockingChannel, "cancel", _cancel),
            (BlockingChannel, "basic_get", _get),
            *wrappers(),
        )
    )
    if theirs := guarded(FAULT, official, CLIENT, "utils"):
        patches.apply([(theirs.ReadyMessagesDequeProxy, "popleft", _take_from_buffer)])
    atexit.register(_end_all)


def uninstrument() -> None:
    """Put pika's own methods back.  Consumers that are already running go on untraced."""
    patches.restore()
    _end_all()
    atexit.unregister(_end_all)
    stop_counting(CLIENT)


def _end_all() -> None:
    end_dropped()
    end_waiting()


def _publish(wrapped: Wrapped, channel: BlockingChannel, args: Args, kwargs: Kwargs) -> Any:
    prepared = guarded(FAULT, prepare, channel, *args, **kwargs) if patches.active else None
    if prepared is None:
        return wrapped(*args, **kwargs)
    sending, arguments = prepared
    with sending, silenced() if sending.adopted else NOTHING:  # theirs spans the channel below once more
        result = wrapped(**arguments)
        if channel._delivery_confirmation:  # noqa: SLF001 - nothing public tells it
            sending.outcome = CONFIRMED
    return result


def _consume(wrapped: Wrapped, _channel: BlockingChannel, args: Args, kwargs: Kwargs) -> Any:
    return by_callback(wrapped, args, kwargs) if patches.active else wrapped(*args, **kwargs)


def _consume_by_generator(wrapped: Wrapped, channel: BlockingChannel, args: Args, kwargs: Kwargs) -> Any:
    deliveries = wrapped(*args, **kwargs)
    return _stepped(deliveries, channel, *_asked(*args, **kwargs)) if patches.active else deliveries


def _stepped(
    deliveries: Generator[Delivery, None, None], channel: BlockingChannel, queue: str, auto_ack: bool
) -> Generator[Delivery, None, None]:
    for delivery in deliveries:
        with guarded(FAULT, _step, channel, queue, auto_ack, *delivery[:2], got=False) or NOTHING:
            yield delivery


def _cancel(wrapped: Wrapped, _channel: BlockingChannel, args: Args, kwargs: Kwargs) -> Any:
    """End a loop, whose generator could only say that its last message is done with."""
    end_dropped()
    return wrapped(*args, **kwargs)


def _take_from_buffer(wrapped: Wrapped, buffer: Any, args: Args, kwargs: Kwargs) -> Any:
    """Take a loop's next message without the official span, which would end before the loop's body begins."""
    return buffer.__wrapped__.popleft() if patches.active else wrapped(*args, **kwargs)


_got: WeakKeyDictionary[BlockingChannel, Processing] = WeakKeyDictionary()
"""The message that each channel's last basic_get returned."""


def _get(wrapped: Wrapped, channel: BlockingChannel, args: Args, kwargs: Kwargs) -> Any:
    if (last := _got.pop(channel, None)) is not None:
        last.leave()
    delivery = wrapped(*args, **kwargs)
    processing = guarded(FAULT, _step, channel, *_asked(*args, **kwargs), *delivery[:2], got=True)
    if processing is not None:
        _got[channel] = processing
        guarded(FAULT, processing.until_dropped, *delivery[:2])
    return delivery


def _asked(queue: str, auto_ack: bool = False, *_args: Any, **_kwargs: Any) -> tuple[str, bool]:
    return queue, auto_ack


def _step(
    channel: BlockingChannel, queue: str, auto_ack: bool, method: Any, properties: Any, *, got: bool
) -> Processing | None:
    """Begin the processing of a message that the application asked for; None where none came."""
    return None if method is None else process(channel, queue, auto_ack, method, properties, step=True, got=got)
