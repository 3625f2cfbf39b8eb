"""What service developers write: transition, transition_context, record and order_context.

Turns a block of their code into one event and hands it to the recorder.  A fault in here is counted and never reaches
the application; the application's own exceptions pass unchanged.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from opentelemetry import context as otel_context
from opentelemetry import trace

from otel_orders import event as events
from otel_orders import outbox
from otel_orders.binding import UNRESOLVED, Resolver, resolver, wrapped
from otel_orders.context import CURRENT, NoOrder, Order, current_order
from otel_orders.error_codes import error_codes
from otel_orders.errors import ConfigurationError
from otel_orders.faults import count_failure
from otel_orders.recorder import active

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import TracebackType

    from opentelemetry.context import Context


P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E", bound=events.StatusEvent)

FAULT = "transition"
"""The source under which faults of this module are counted."""

_INT64 = 2**63
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_tracer = trace.get_tracer("otel_orders")


def as_order(order_id: object, partner_id: object = None) -> Order | None:
    """Return the order that *order_id* names; None, and a fault counted, where it names none.

    The partner of an enclosing block for the same order is kept.
    """
    try:
        if order_id is UNRESOLVED:
            return None
        text = "" if order_id is None else events.text_of(order_id)
        if not text:
            count_failure(FAULT, ConfigurationError("no order id"))
            return None
        if partner_id is not None and partner_id is not UNRESOLVED:
            return Order(text, events.text_of(partner_id))
        outer = current_order()
        return outer if outer is not None and outer.order_id == text else Order(text)
    except Exception as error:
        count_failure(FAULT, error)
        return None


class OrderScope:
    """Makes an order the current one: for a whole block, or only while one step of a generator runs."""

    __slots__ = ("_order", "_token")

    def __init__(self, order: Order | None) -> None:
        self._order = order
        self._token: Token[Order | NoOrder | None] | None = None

    def start(self) -> None:
        """Begin; the order is not bound yet."""

    def bind(self) -> None:
        """Make the order the current one."""
        if self._order is not None:
            self._token = CURRENT.set(self._order)

    def unbind(self) -> None:
        """Put back what was current before bind()."""
        if self._token is not None:
            try:  # noqa: SIM105 - suppress() costs more than all else here
                CURRENT.reset(self._token)
            except ValueError:  # left in another context than entered, which then goes on as it was
                pass
            self._token = None

    def finish(self, error: BaseException | None) -> None:
        """End, because of *error* if there is one; called while bound."""

    def __enter__(self) -> Self:
        self.start()
        self.bind()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.finish(error)
        self.unbind()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, tb)


class Move(OrderScope):
    """One transition while it happens: a block whose end is the event.

    from_status: where the order comes from, None while unknown.  version: of the order after the change, None where
    the application keeps none.  occurred_at: unix ns, None for the end of the block.  All may be set inside the block.
    """

    __slots__ = (
        "_attached",
        "_attributes",
        "_outboxed",
        "_skipped",
        "_span",
        "_span_context",
        "_started",
        "from_status",
        "occurred_at",
        "to_status",
        "version",
    )

    def __init__(self, order: Order | None, to_status: str, from_status: str | None = None) -> None:
        self._order = order
        self._token = None
        self.to_status = to_status
        self.from_status = from_status
        self.version: int | None = None
        self.occurred_at: int | None = None
        self._attributes: dict[str, object] | None = None
        self._skipped = False
        self._outboxed: events.StatusChanged | None = None
        self._started = 0
        self._span: trace.Span = trace.INVALID_SPAN
        self._span_context: Context | None = None
        self._attached: Token[Context] | None = None

    def skip(self) -> None:
        """Nothing changed: record nothing."""
        self._skipped = True

    def set(self, **attributes: object) -> None:
        """Add *attributes* to the event: at most 32, strings of at most 256 characters, no names of its own fields."""
        self._attributes = {**(self._attributes or {}), **attributes}

    def outbox(self, connection: Any) -> None:
        """Write the event as a row in *connection*'s transaction, in place of sending it.

        Call it last in the block, when from_status, version and attributes are set.  The ledger follows the table, so
        the event is true exactly if the transaction commits.  If the row cannot be written, the fault is counted and
        the event is sent as usual.
        """
        if self._order is None:
            return  # as_order() has counted it
        try:
            event = self._changed(self._order, time.time_ns())
            outbox.write(connection, event)
            self._outboxed = event
        except Exception as error:
            count_failure("outbox", error)

    def start(self) -> None:
        """Open the span and start the clock."""
        self.open_span()
        self._started = time.perf_counter_ns()

    def open_span(self) -> None:
        """Open the span, which bind() makes the current one."""
        try:
            if self._order is not None:
                self._span = _tracer.start_span(f"transition {self.to_status}", attributes=self._order.attributes)
                self._span_context = trace.set_span_in_context(self._span)
        except Exception as error:
            count_failure(FAULT, error)

    def bind(self) -> None:
        """Make the order and the span the current ones."""
        OrderScope.bind(self)
        if self._span_context is not None:
            self._attached = otel_context.attach(self._span_context)

    def unbind(self) -> None:
        """Put back what was current before bind()."""
        if self._attached is not None:
            otel_context.detach(self._attached)
            self._attached = None
        OrderScope.unbind(self)

    def finish(self, error: BaseException | None) -> None:
        """Record what happened and close the span."""
        now = time.time_ns()
        try:
            if self._order is not None and not self._skipped and not isinstance(error, GeneratorExit):
                self._record(self._order, error, self.occurred_at or now)
        except Exception as fault:
            count_failure(FAULT, fault)
        try:
            self._span.end(now)
        except Exception as fault:  # a span processor of the application's
            count_failure("traces", fault)

    def _record(self, order: Order, error: BaseException | None, now: int) -> None:
        if (lifecycle := active().lifecycle) is not None and lifecycle.status(self.to_status) is None:
            count_failure("unknown_status", ConfigurationError(self.to_status))
        if error is not None:
            code = error_codes.of(error)
            active().record(self._event(events.TransitionFailed, order, now, events.new_event_id(), error_code=code))
        elif self._outboxed is not None:
            active().project(self._outboxed)
        else:
            active().record(self._changed(order, now))

    def _changed(self, order: Order, now: int) -> events.StatusChanged:
        version = None if self.version is None else _version(self.version)
        if version is None:
            return self._event(events.StatusChanged, order, now, events.new_event_id())
        event_id = events.versioned_event_id(order.order_id, version, self.to_status)
        return self._event(events.StatusChanged, order, now, event_id, order_version=version)

    def _event(self, kind: type[E], order: Order, now: int, event_id: str, **more: Any) -> E:
        recorder, span = active(), self._span.get_span_context()
        return kind(
            event_id=event_id,
            service=recorder.service,
            env=recorder.env,
            occurred_at=now,
            trace_id=f"{span.trace_id:032x}" if span.is_valid else "",
            span_id=f"{span.span_id:016x}" if span.is_valid else "",
            attributes=recorder.masked(events.bounded(self._attributes)) if self._attributes else {},
            order_id=order.order_id,
            partner_id=order.partner_id,
            from_status=None if self.from_status is None else events.text_of(self.from_status),
            to_status=self.to_status,
            duration=time.perf_counter_ns() - self._started if self._started else 0,
            **more,
        )


def _unix_ns(moment: object) -> int | None:
    """Return *moment* as unix ns; None where it is none, and a fault counted: the event then happens now."""
    if isinstance(moment, datetime) and moment.tzinfo is not None:
        return int((moment - _EPOCH) / timedelta(microseconds=1)) * 1000
    if isinstance(moment, int) and not isinstance(moment, bool) and 0 < moment < _INT64:
        return moment
    count_failure(FAULT, ConfigurationError("an occurred_at that is neither unix ns nor a datetime with a zone"))
    return None


def _version(version: object) -> int | None:
    """Return *version* where it is one (a 64-bit integer); else None, and a fault counted: the event goes without."""
    if isinstance(version, int) and -_INT64 <= version < _INT64:
        return int(version)
    count_failure(FAULT, ConfigurationError("a version that is no 64-bit integer"))
    return None


def transition_context(
    order_id: object, to_status: str, *, from_status: str | None = None, partner_id: object = None
) -> Move:
    """Return a block (``with`` or ``async with``) whose normal end moves the order to *to_status*.

    order_id: anything whose str() names the order.  from_status: left off where it is unknown.  An exception from the
    block is recorded as order.transition_failed and reaches the caller unchanged.
    """
    return Move(as_order(order_id, partner_id), events.text_of(to_status), from_status)


def record(
    order_id: object,
    to_status: str,
    *,
    from_status: str | None = None,
    partner_id: object = None,
    version: int | None = None,
    occurred_at: datetime | int | None = None,
    **attributes: object,
) -> None:
    """Record a transition that already happened, so that nobody knows how long its work took.  Never raises.

    occurred_at: when it did, as unix ns or as a datetime that knows its zone; now by default, and where it is neither.
    """
    move = transition_context(order_id, to_status, from_status=from_status, partner_id=partner_id)
    move.version = version
    move.occurred_at = None if occurred_at is None else _unix_ns(occurred_at)
    move.set(**attributes)
    move.open_span()
    move.bind()
    move.finish(None)
    move.unbind()


def transition(
    to_status: str, *, order_id: Resolver, from_status: str | None = None, partner_id: Resolver | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function, coroutine, generator or async generator whose normal end moves an order to *to_status*.

    order_id, partner_id: a parameter's name, a dotted path that starts with one (``cmd.order.id``), or a callable that
    takes the function's arguments.  Raises ConfigurationError at decoration for a parameter that does not exist, or a
    status that the configured lifecycle does not have.
    """
    to_status = events.text_of(to_status)
    _check_status(to_status)
    if from_status is not None:
        _check_status(from_status)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        find = _order_finder(function, order_id, partner_id)
        return wrapped(function, lambda args, kwargs: Move(find(args, kwargs), to_status, from_status))

    return decorate


class order_context(OrderScope):  # noqa: N801 - read as a function, like contextlib.suppress
    """Bind an order for everything inside: a block, or a decorated function of any kind.

    ``with order_context(order.id, partner_id="acme"):`` takes the ids themselves (``async with`` too); one block each.
    ``@order_context("cmd.order.id")`` takes, as transition() does, a parameter's name, a dotted path or a callable.
    """

    __slots__ = ("_given",)

    def __init__(self, order_id: object, *, partner_id: object = None) -> None:
        super().__init__(None)
        self._given = (order_id, partner_id)

    def start(self) -> None:
        """Look the order up; a callable has no meaning here."""
        order_id, partner_id = self._given
        self._order = as_order(None if callable(order_id) else order_id, partner_id)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate *function*.  Raises ConfigurationError for a parameter that does not exist."""
        find = _order_finder(function, *self._given)
        return wrapped(function, lambda args, kwargs: OrderScope(find(args, kwargs)))


def _order_finder(function: Callable[..., Any], order_id: object, partner_id: object) -> Callable[..., Order | None]:
    """Return what finds the order in a call's (args, kwargs)."""
    find_order = resolver(function, "order_id", order_id)
    if partner_id is None:
        return lambda args, kwargs: as_order(find_order(args, kwargs))
    find_partner = resolver(function, "partner_id", partner_id)
    return lambda args, kwargs: as_order(find_order(args, kwargs), find_partner(args, kwargs))


def _check_status(status: str) -> None:
    lifecycle = active().lifecycle
    if lifecycle is not None and lifecycle.status(status) is None:
        known = ", ".join(lifecycle.statuses)
        raise ConfigurationError(f"transition: the lifecycle has no status {status!r}; it has {known}")
