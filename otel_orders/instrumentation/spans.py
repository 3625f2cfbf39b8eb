"""Spans that are ended once, and the context and order that are current inside them.

A fault in here never reaches the application, and nothing that was made current stays so.  Knows neither headers nor
clients.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

import msgspec
from opentelemetry import trace
from opentelemetry.context import Context, attach, create_key, get_current
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import Span, Status, StatusCode

from otel_orders.context import CURRENT, NoOrder, Order
from otel_orders.faults import count_failure

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

P = ParamSpec("P")
R = TypeVar("R")

tracer = trace.get_tracer("otel_orders")
"""One for all instrumentation, read at each use, so that a test can put its own in place."""

MAX_CONTEXTS = 100
"""How many exceptions are looked through, each raised while the one before was handled."""

_PLACE = create_key("otel-orders-place")


def guarded(source: str, step: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
    """Return what *step* returns; where it raises, count a fault of *source* and return None."""
    try:
        return step(*args, **kwargs)
    except Exception as error:  # the host application must never see a telemetry fault
        count_failure(source, error)
        return None


def start_span(name: str, order: Order | None, **options: Any) -> Span:
    """Start a span inside *order*, so that span processors see it; nothing stays bound."""
    token = CURRENT.set(order)
    try:
        return tracer.start_span(name, **options)
    finally:
        CURRENT.reset(token)


def fail(span: Span, error: BaseException) -> None:
    """Put *error*, which application code raised, on *span*."""
    if isinstance(error, Exception):
        span.record_exception(error)
    span.set_attribute(ERROR_TYPE, error_type(error))
    span.set_status(Status(StatusCode.ERROR))


def error_type(error: BaseException) -> str:
    """Return the name of *error* for ``error.type``."""
    return "cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__qualname__


class _Process:
    """here: this process, as its spans know it; None before the first.  A fork's child is another."""

    here: object | None = None
    hooked = False


def _enter_process() -> object:
    """Return what stands for this process, and be told of forks from now on: Python cannot take such a hook back."""
    if not _Process.hooked:
        _Process.hooked = True
        os.register_at_fork(after_in_child=_enter_process)
    _Process.here = object()
    return _Process.here


class OpenSpan:
    """A span that is ended once, by whoever comes first, and not in a child of the process that began it.

    source: under which faults are counted.  adopted: whether another instrumentation made the span and ends it; what
    is known is put on it all the same.
    """

    def __init__(self, source: str, span: Span, *, adopted: bool = False) -> None:
        if _dropped:
            end_dropped()
        self._process = _Process.here or _enter_process()
        self.span = span
        self._source = source
        self.adopted = adopted
        self.ended = False

    @property
    def over(self) -> bool:
        """Whether there is nothing to end here: it has ended already, or is the parent process's to end."""
        return self.ended or self._process is not _Process.here

    def end(self, error: BaseException | None = None, at: int | None = None) -> None:
        """End the span, because of *error* if there is one.  at: unix ns, None for now.  Never raises."""
        if self.over:
            return
        self.ended = True
        try:
            self.describe(error)
        except Exception as fault:  # as in guarded(), without the calls: this runs for every message
            count_failure(self._source, fault)
        if not self.adopted:
            guarded(self._source, self.span.end, at)

    def end_safely(self, error: BaseException | None = None) -> None:
        """End the span where application code runs, whatever runs it: later, if that may be the garbage collector."""
        if _is_closing(error or sys.exception()):
            end_later(self, time.time_ns())
        else:
            self.end(error)

    def describe(self, error: BaseException | None) -> None:
        """Put on the span what is known at its end."""
        if error is None or isinstance(error, GeneratorExit):
            return
        if not self.adopted:
            fail(self.span, error)
        elif self.span.is_recording():  # the error itself is for its owner to put there
            self.span.set_attribute(ERROR_TYPE, error_type(error))


def _is_closing(error: BaseException | None) -> bool:
    """Return whether a generator or a coroutine is being closed: the garbage collector does that anywhere.

    error: what it is left by, which may have been raised on the way out.
    """
    for _ in range(MAX_CONTEXTS):
        if error is None or isinstance(error, GeneratorExit):
            break
        error = error.__context__
    return isinstance(error, GeneratorExit)


_dropped: deque[tuple[OpenSpan, int]] = deque()
"""What the application let go of, and when; no one has ended it yet."""


def end_later(span: OpenSpan, at: int) -> None:
    """Have *span* end, as of *at* (unix ns), when the next one of ours begins, or with the program.  Never raises.

    For finalizers and generators that are closed, which must not do it themselves: the garbage collector may run them
    in the middle of a span processor that holds its lock.
    """
    _dropped.append((span, at))


def end_dropped() -> None:
    """End what end_later() was told.  Never raises."""
    while _dropped:
        with suppress(IndexError):  # another thread was faster
            span, at = _dropped.popleft()
            span.end(at=at)


class Outbound(OpenSpan):
    """The span of something that is sent: current inside the block, and ended by an error that leaves it.

    A coroutine that is closed ends it too, if a little later: it may be the garbage collector that closes.
    """

    def __enter__(self) -> Self:
        self._before = get_current()
        self._inside = trace.set_span_in_context(self.span, self._before)
        attach(self._inside)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if get_current() is self._inside:  # no token: a coroutine may be closed in another context
            attach(self._before)
        if error is not None:
            self.end_safely(error)


class _Place(msgspec.Struct):
    """Where a scope stands.  base: the context and the order that are current outside all scopes."""

    base: tuple[Context, Order | NoOrder | None]
    closed: bool = False


class Scope:
    """A context and an order that are current from construction to close().

    They are put back by value: a step of an iterator may be closed in another task, in another thread or by a
    finalizer, where a context variable's token is refused.  Scopes may close in any order; closing one that is not on
    top leaves the top alone.
    """

    def __init__(self, context: Context, order: Order | None, known: dict[str, Any] | None = None) -> None:
        """Begin.  known: what else is in the context, by key."""
        self._before = get_current(), CURRENT.get()
        outer = self._before[0].get(_PLACE)
        self._outer = outer if isinstance(outer, _Place) else None
        self._place = _Place(self._before if self._outer is None else self._outer.base)
        self._order = order or NoOrder()
        self._context = Context({**context, **(known or {}), _PLACE: self._place})
        attach(self._context)
        CURRENT.set(self._order)

    def is_current(self) -> bool:
        """Return whether the calling code is directly inside."""
        return get_current() is self._context

    def close(self) -> None:
        """Put back what was current before, unless the calling code has something else current by now."""
        context, order = self._before if self._outer is None or not self._outer.closed else self._outer.base
        if get_current() is self._context:
            attach(context)
        if CURRENT.get() is self._order:  # which it is not after the end of a bound() around
            CURRENT.set(order)
        self._place.closed = True
