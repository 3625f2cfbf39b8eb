"""What pika's two kinds of channel share, and the one of the asynchronous adapters: SelectConnection and its like.

Their methods return at once: a publishing that is to be confirmed ends when the broker has told how it went, and a
message is in process while its callback runs.  A BlockingChannel is made on such a Channel; what it does through it is
traced in pika.py.  Knows nothing of payloads and settles nothing.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

from opentelemetry.trace import SpanKind
from pika import BasicProperties
from pika.adapters.blocking_connection import BlockingChannel
from pika.channel import Channel
from pika.exceptions import NackError, UnroutableError
from pika.spec import Basic

from otel_orders.instrumentation import settling
from otel_orders.instrumentation.amqp import (
    CONFIRMED,
    FAULT,
    NACKED,
    RETURNED,
    TRACING,
    UNCONFIRMED,
    Message,
    Sending,
)
from otel_orders.instrumentation.coexistence import official_span
from otel_orders.instrumentation.patching import Patches
from otel_orders.instrumentation.pika_returns import Returns
from otel_orders.instrumentation.processing import Processing
from otel_orders.instrumentation.spans import end_dropped, guarded

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_orders.instrumentation.patching import Wrapper

    AnyChannel: TypeAlias = BlockingChannel | Channel
    Wrapped = Callable[..., Any]
    Args = tuple[Any, ...]
    Kwargs = dict[str, Any]

CLIENT = "pika"
_REFUSALS = {UnroutableError: RETURNED, NackError: NACKED}

patches = Patches()
NOTHING: AbstractContextManager[None] = nullcontext()


class Active:
    """What instrument() was told last; consumers that are already running follow it."""

    tracing = TRACING


class _Known:
    """What is kept about a channel: where it leads, and what waits on it to be settled or confirmed.

    below: whether a BlockingChannel is made on it.
    """

    def __init__(self, channel: Channel, *, below: bool) -> None:
        self.below = below
        parameters = channel.connection.params
        self.server = (parameters.host, parameters.port)
        self.frame_max = parameters.frame_max
        self.unsettled = settling.Waiting()
        self.unconfirmed: settling.Waiting | None = None
        self._published = 0
        self._returns = Returns()
        channel.add_on_close_callback(self.close)

    def close(self, *_: Any) -> None:
        """End all that waits: the channel is closed."""
        end_dropped()
        self.unsettled.close()
        if self.unconfirmed is not None:
            self.unconfirmed.close(UNCONFIRMED)
            self.unconfirmed = None

    def confirm(self, channel: Channel) -> None:
        """From now on the broker confirms what is published on *channel*."""
        if self.unconfirmed is None:
            self.unconfirmed = settling.Waiting()
            channel.add_callback(self._confirmed, [Basic.Ack, Basic.Nack], one_shot=False)
            channel.add_on_return_callback(self._returned)

    def count(self, sending: Sending | None, *, mandatory: bool) -> None:
        """Count a message that was published, traced or not: the broker's confirmations go by this number."""
        if self.unconfirmed is not None:
            self._published += 1
            if sending is not None and mandatory:
                self._returns.expect(sending, self.unconfirmed, self._published)
            elif sending is not None:
                sending.await_outcome(self.unconfirmed, self._published)

    def _confirmed(self, frame: Any) -> None:
        told = frame.method
        outcome = NACKED if isinstance(told, Basic.Nack) else CONFIRMED
        if self.unconfirmed is not None:
            guarded(FAULT, self.unconfirmed.settle, settling.Settlement(outcome, told.delivery_tag, told.multiple))

    def _returned(self, _channel: Any, _method: Any, properties: BasicProperties, _body: Any) -> None:
        guarded(FAULT, self._returns.note, properties.headers or {})


_channels: WeakKeyDictionary[Channel, _Known] = WeakKeyDictionary()


def known(channel: AnyChannel) -> _Known:
    """Return what is kept about *channel*, which a BlockingChannel shares with the one below it."""
    below = getattr(channel, "_impl", channel)
    found = _channels.get(below)
    if found is None:
        found = _channels[below] = _Known(below, below=below is not channel)
    return found


def end_waiting() -> None:
    """End what is still held back: nobody will settle it any more."""
    for found in list(_channels.values()):
        found.close()


def wrappers() -> tuple[tuple[type, str, Wrapper], ...]:
    """Return what wraps the methods of Channel."""
    return (
        (Channel, "basic_publish", _publish),
        (Channel, "confirm_delivery", _confirm),
        (Channel, "basic_consume", _by_callback),
        (Channel, "basic_get", _by_callback),
        (Channel, "basic_ack", _settling(settling.acked)),
        (Channel, "basic_nack", _settling(settling.nacked)),
        (Channel, "basic_reject", _settling(settling.rejected)),
    )


def _is_traced(channel: Channel) -> bool:
    """Return whether calls of *channel* are to be traced here, and not where a BlockingChannel makes them."""
    found = _channels.get(channel)
    if found is not None and found.below:
        return False
    below = isinstance(channel._get_cookie(), BlockingChannel)  # noqa: SLF001 - only there, until it is closed
    return not below and patches.active


def _settling(read: Callable[..., settling.Settlement]) -> Wrapper:
    """Return the wrapper of a method that settles messages, whose arguments *read* understands."""

    def settle(wrapped: Wrapped, channel: Channel, args: Args, kwargs: Kwargs) -> Any:
        result = wrapped(*args, **kwargs)
        if (found := _channels.get(channel)) is not None:
            guarded(FAULT, found.unsettled.settle_by, read, *args, **kwargs)
        return result

    return settle


def _publish(wrapped: Wrapped, channel: Channel, args: Args, kwargs: Kwargs) -> Any:
    prepared = guarded(FAULT, prepare, channel, *args, **kwargs) if _is_traced(channel) else None
    if prepared is None:
        result = wrapped(*args, **kwargs)
        guarded(FAULT, _count, channel)
        return result
    sending, arguments = prepared
    with sending:
        result = wrapped(**arguments)
        guarded(FAULT, _count, channel, sending, mandatory=arguments["mandatory"])
    return result


def _count(channel: Channel, sending: Sending | None = None, *, mandatory: bool = False) -> None:
    if (found := _channels.get(channel)) is not None:
        found.count(sending, mandatory=mandatory)


def prepare(  # noqa: PLR0917 - as basic_publish has them
    channel: AnyChannel,
    exchange: str,
    routing_key: str,
    body: Any,
    properties: Any = None,
    mandatory: bool = False,
) -> tuple[Sending, Kwargs]:
    """Return the sending, and basic_publish's arguments with a copy of the properties that carries it."""
    carrying = BasicProperties() if properties is None else _copied(properties)
    found = known(channel)
    carrying.message_id = Active.tracing.tracking.message_id(exchange, routing_key, carrying.message_id)
    message = Message(
        exchange,
        routing_key,
        carrying.headers,
        message_id=carrying.message_id,
        conversation_id=carrying.correlation_id,
        server=found.server,
    )
    adopted = official_span(CLIENT, SpanKind.PRODUCER)
    sending = Sending(message, Active.tracing, refusals=_REFUSALS, adopted=adopted, frame_max=found.frame_max)
    carrying.headers = sending.headers
    if carrying.timestamp is None:
        carrying.timestamp = sending.timestamp
    return sending, {
        "exchange": exchange,
        "routing_key": routing_key,
        "body": body,
        "properties": carrying,
        "mandatory": mandatory,
    }


def _copied(properties: BasicProperties) -> BasicProperties:
    """Return a shallow copy, of the same class; copy.copy() takes four times as long."""
    twin: BasicProperties = object.__new__(type(properties))
    vars(twin).update(vars(properties))
    return twin


def _confirm(wrapped: Wrapped, channel: Channel, args: Args, kwargs: Kwargs) -> Any:
    result = wrapped(*args, **kwargs)
    if _is_traced(channel):
        guarded(FAULT, known(channel).confirm, channel)
    return result


def _by_callback(wrapped: Wrapped, channel: Channel, args: Args, kwargs: Kwargs) -> Any:
    """Consume, or get one message: to both, a message comes by a callback."""
    return by_callback(wrapped, args, kwargs) if _is_traced(channel) else wrapped(*args, **kwargs)


def by_callback(wrapped: Wrapped, args: Args, kwargs: Kwargs) -> Any:
    """Call *wrapped*, with the callback inside the process span."""
    name = "callback" if getattr(wrapped, "__name__", "") == "basic_get" else "on_message_callback"
    traced = guarded(FAULT, _with_traced_callback, name, *args, **kwargs)
    return wrapped(*args, **kwargs) if traced is None else wrapped(*traced[0], **traced[1])


def _with_traced_callback(name: str, queue: str, *args: Any, **kwargs: Any) -> tuple[Args, Kwargs] | None:
    """Return the arguments with the callback (*name*) inside the process span; None: leave the call to pika."""
    callback = args[0] if args else kwargs.get(name)
    if not callable(callback):
        return None
    no_ack = args[1] if len(args) > 1 else kwargs.get("auto_ack", False)

    @functools.wraps(callback)
    def traced(channel: Any, method: Any, properties: Any, body: Any) -> Any:
        with guarded(FAULT, process, channel, queue, no_ack, method, properties) or NOTHING:
            return callback(channel, method, properties, body)

    return ((queue, traced, *args[1:]), kwargs) if args else ((queue,), kwargs | {name: traced})


def process(
    channel: AnyChannel,
    queue: str,
    auto_ack: bool,
    method: Any,
    properties: BasicProperties,
    *,
    step: bool = False,
    got: bool = False,
) -> Processing | None:
    """Begin the processing of a message; None where nothing is to be traced.

    step: the application asked for it.  got: nothing but its settlement tells when the work is done.
    """
    if not patches.active:
        return None
    found = known(channel)
    message = Message(
        method.exchange,
        method.routing_key,
        properties.headers,
        queue=queue,
        message_id=properties.message_id,
        conversation_id=properties.correlation_id,
        server=found.server,
        timestamp=properties.timestamp,
        delivery_tag=method.delivery_tag,
        redelivered=method.redelivered,
        no_ack=auto_ack,
    )
    adopted = None if step else official_span(CLIENT, SpanKind.CONSUMER)
    return Processing(message, Active.tracing, ambient=step, waiting=found.unsettled, adopted=adopted, got=got)
