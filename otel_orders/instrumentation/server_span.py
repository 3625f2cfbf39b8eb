"""One server span where another middleware opens one for each request too: OpenTelemetry's for ASGI, which its FastAPI
and Starlette instrumentors add, and FastAPI's own telemetry.

Inside of OrderMiddleware, theirs works on our span, so that its attributes, hooks and metrics stay.  Outside of it, we
work on theirs; whether that one continues the caller's trace is then for our rules to say, which are found further in.
What is changed is only how their tracer opens the span of a request, for applications with an OrderMiddleware.
"""

from __future__ import annotations

import copy
import sys
from typing import TYPE_CHECKING, Any

import wrapt
from opentelemetry import baggage, trace
from opentelemetry.context import attach, create_key, get_current, set_value
from opentelemetry.trace import INVALID_SPAN, Link

from otel_orders.instrumentation.patching import Patches
from otel_orders.instrumentation.server_rules import FAULT, Rules
from otel_orders.instrumentation.spans import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from otel_orders.context import Order
    from otel_orders.instrumentation.audience import AsgiScope

    First = Callable[[Tracer, str, Any, dict[str, Any]], Any]
    """Opens the span of a request: first(tracer, name, context, options)."""

    _Proxy = wrapt.ObjectProxy[Any]
else:
    _Proxy = wrapt.ObjectProxy

LEAD = "otel_orders.lead"
"""Under which the scope has the Lead."""

MAX_DEPTH = 50
"""How many middlewares are looked through."""

_THEIRS = (
    ("opentelemetry.instrumentation.asgi", "OpenTelemetryMiddleware"),
    ("fastapi.telemetry._asgi", "NativeTelemetry"),
)

_LEAD = create_key("otel-orders-lead")
"""Under which the context has it."""

_patches = Patches()


class Lead:
    """The span of a request, for middlewares further in and for the application.

    context: what the request is answered in; of its baggage, no more than is believed.  recorded: the last exception
    that others put on the span.  order: what the application says that the request is about.
    """

    def __init__(self, span: Span, context: Context) -> None:
        self.span = span
        self.context = context
        self.recorded: BaseException | None = None
        self.order: Order | None = None

    def inside(self, context: Context) -> Context:
        """Return *context* with this as its current_lead()."""
        return set_value(_LEAD, self, context)

    def is_about(self, order: Order) -> None:
        """Put *order* on the span: the request turned out to be about it."""
        self.order = order
        self.span.set_attributes(order.attributes)


def current_lead() -> Lead | None:
    """Return the lead of the request that the calling code answers; None outside of requests."""
    found = get_current().get(_LEAD)
    return found if isinstance(found, Lead) else None


class _Lent(_Proxy):
    """Our span in the hands of others, who neither end it nor put an exception on it twice."""

    def __init__(self, lead: Lead) -> None:
        super().__init__(lead.span)
        self._self_lead = lead

    def end(self, end_time: int | None = None) -> None:
        """Leave it open: OrderMiddleware ends it."""

    def record_exception(self, exception: BaseException, *args: Any, **kwargs: Any) -> None:
        if self._self_lead.recorded is not exception:
            self._self_lead.recorded = exception
            self.__wrapped__.record_exception(exception, *args, **kwargs)


class _Tracer(_Proxy):
    """A tracer whose first span is opened by *first*."""

    def __init__(self, tracer: Tracer, first: First) -> None:
        super().__init__(tracer)
        self._self_first: First | None = first

    def start_span(self, name: str, context: Any = None, **options: Any) -> Any:
        first, self._self_first = self._self_first, None
        if first is None:
            return self.__wrapped__.start_span(name, context=context, **options)
        return first(self.__wrapped__, name, context, options)


def steer() -> None:
    """Have a say in the spans of those middlewares that are loaded by now.  Harmless when it is done already."""
    for module, owner in _THEIRS:
        found = getattr(sys.modules.get(module), owner, None)
        if found is not None:
            _patches.apply([(found, "__call__", _call)])


def _call(wrapped: Any, theirs: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    scope = args[0] if args else kwargs.get("scope")  # uvicorn calls with nothing, to see whether it is a factory
    steered = guarded(FAULT, _steered, theirs, scope) if scope else None
    return wrapped(*args, **kwargs) if steered is None else wrapped.__func__(steered, *args, **kwargs)


def _steered(theirs: Any, scope: AsgiScope) -> Any:
    """Return *theirs* with another tracer for one request; None where nothing is to be changed."""
    first = _first(theirs, scope) if scope["type"] in ("http", "websocket") else None
    if first is None:
        return None
    steered = copy.copy(theirs)
    if hasattr(theirs, "tracer"):
        steered.tracer = _Tracer(theirs.tracer, first)
    else:
        steered._get_tracer = lambda **options: _Tracer(theirs._get_tracer(**options), first)  # noqa: SLF001
    return steered


def _first(theirs: Any, scope: AsgiScope) -> First | None:
    """Return what opens the span of the request; None for their own way."""
    lead = scope.get(LEAD)
    if isinstance(lead, Lead) and lead.span.get_span_context().is_valid:
        return lambda *_: _lent(lead)
    rules = _rules_inside(getattr(theirs, "app", None) or getattr(scope.get("app"), "middleware_stack", None))
    return None if rules is None or rules.trusts(scope) else _in_a_trace_of_its_own


def _lent(lead: Lead) -> Any:
    believed = baggage.get_all(lead.context)
    if baggage.get_all() != believed:  # they have read the headers themselves, and take back what they made current
        attach(with_baggage(believed))
    return _Lent(lead)


def with_baggage(believed: Mapping[str, object]) -> Context:
    """Return the current context with *believed* as its baggage, and no other."""
    context = baggage.clear()
    for name, value in believed.items():
        context = baggage.set_baggage(name, value, context)
    return context


def _rules_inside(app: Any) -> Rules | None:
    """Return the rules of the OrderMiddleware that *app* is, or that stands in the row of middlewares behind it."""
    for _ in range(MAX_DEPTH):
        rules = getattr(app, "rules", None)
        if app is None or isinstance(rules, Rules):
            return rules
        app = getattr(app, "app", None) or getattr(app, "middleware_stack", None)
    return None


def _in_a_trace_of_its_own(tracer: Tracer, name: str, context: Any, options: dict[str, Any]) -> Span:
    """Start a span that is linked to the caller's, where it would have been its child."""
    caller = trace.get_current_span(context).get_span_context()
    if caller.is_valid and caller.is_remote:
        context = trace.set_span_in_context(INVALID_SPAN, context)
        options = {**options, "links": (*(options.get("links") or ()), Link(caller))}
    return tracer.start_span(name, context=context, **options)
