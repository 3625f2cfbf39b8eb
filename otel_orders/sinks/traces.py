"""Project events onto spans, and put the current order on every span.

A transition's span is opened where its block starts (so that what happens inside is its child) and described here,
from the event, when the block has ended.  No span is back-dated, none stays open for an order's life.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import Span, Status, StatusCode

from otel_orders import names
from otel_orders.context import current_order
from otel_orders.event import StatusEvent, TransitionFailed
from otel_orders.faults import count_failure

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from otel_orders.event import Event


class TraceSink:
    """Describes the current span, which transition.py has opened for this event."""

    name = "traces"

    def emit(self, event: Event) -> None:
        """Put *event* on the current span."""
        if not isinstance(event, StatusEvent):
            return
        span = trace.get_current_span()
        if not span.is_recording():
            return
        span.set_attributes(span_attributes(event))
        if isinstance(event, TransitionFailed):
            span.set_status(Status(StatusCode.ERROR, event.error_code))


def span_attributes(event: StatusEvent) -> dict[str, Any]:
    """Return the attributes that make a span readable as *event*; its end is the event's occurred_at."""
    found: dict[str, Any] = {
        **event.attributes,
        names.SERVICE: event.service,
        names.ENV: event.env,
        names.EVENT_TYPE: event.event_type,
        names.EVENT_ID: event.event_id,
        names.OCCURRED_AT: event.occurred_at,
        names.TO_STATUS: event.to_status,
    }
    if (status := event.status) is not None:
        found[names.STATUS] = status
    if event.from_status is not None:
        found[names.FROM_STATUS] = event.from_status
    if event.order_version is not None:
        found[names.ORDER_VERSION] = event.order_version
    if isinstance(event, TransitionFailed):
        found[names.ERROR_CODE] = event.error_code
    return found


class OrderSpanProcessor(SpanProcessor):
    """Puts order_id, partner_id and order_bucket on every span that starts inside an order, whoever starts it."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - the SDK's signature
        """Stamp *span*."""
        order = current_order()
        if order is None or names.ORDER_ID in (getattr(span, "attributes", None) or ()):
            return
        try:
            span.set_attributes(order.attributes)
        except Exception as error:
            count_failure(TraceSink.name, error)
