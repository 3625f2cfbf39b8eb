"""Orders on their way through three services: their spans, and what of them should be kept.  Knows no Collector."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_orders.event import order_bucket
from tests.ledger.senders import SECOND, key_values, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RATIO = 0.15
"""Of the reference lifecycle."""
STATUSES = ("INITIATED", "FILE_UPLOADED", "SUBMITTED", "PRICE_CALCULATED", "MANUFACTURING_APPROVED")
TRACES = ("shop", "pricing", "mes")
"""Of each order.  The pricing workers read from a queue of problem_only."""
TROUBLES = ("error", "error_code", "redelivered", "slow", "late")
"""What goes wrong in every twentieth order: five kinds in turn."""
WRONG: tuple[Any, ...] = (999, -1, "7", 3.5, True)
"""Buckets that a sender may have made up."""


class Order(NamedTuple):
    """One order.  trouble: what goes wrong with it, or nothing."""

    number: int

    @property
    def id(self) -> str:
        return f"order-{self.number}" if self.number % 7 else f"Заказ № {self.number}"

    @property
    def trouble(self) -> str:
        return TROUBLES[self.number // 20 % len(TROUBLES)] if self.number % 20 == 0 else ""

    @property
    def chosen(self) -> bool:
        """Whether the order is one of those whose traces are kept though nothing is wrong."""
        return order_bucket(self.id) < RATIO * 100

    def trace_id(self, trace: str) -> bytes:
        return hashlib.md5(f"{self.number}/{trace}".encode(), usedforsecurity=False).digest()

    def span_id(self, trace: str, place: int) -> bytes:
        return hashlib.md5(f"{self.number}/{trace}/{place}".encode(), usedforsecurity=False).digest()[:8]

    @property
    def spans_of_problems(self) -> set[bytes]:
        """The spans that go where problems go: traces with a problem, and errors that came late."""
        if self.trouble == "late":
            return {self.late.span_id}
        trace = {"error": "mes", "error_code": "pricing", "redelivered": "mes", "slow": "pricing"}.get(self.trouble)
        return {self.span_id(trace, place) for place in range(3)} if trace else set()

    @property
    def ordinary_spans(self) -> set[bytes]:
        """The spans of whole traces that are kept for the order's bucket."""
        traces = [trace for trace in ("shop", "mes") if self.chosen]
        return {self.span_id(trace, place) for trace in traces for place in range(3)} - self.spans_of_problems

    @property
    def late(self) -> Span:
        """The root of the shop's trace that fails long after its children were judged."""
        now = time.time_ns()
        return Span(
            trace_id=self.trace_id("shop"),
            span_id=self.span_id("shop", 9),
            name="POST /orders",
            start_time_unix_nano=now - 60 * SECOND,
            end_time_unix_nano=now,
            attributes=key_values({"order_id": self.id}),
            status=Status(code=Status.STATUS_CODE_ERROR),
        )

    def spans(self) -> list[Span]:
        """Return all spans but late ones."""
        return [self._span(trace, place) for trace in TRACES for place in range(3)]

    def _span(self, trace: str, place: int) -> Span:
        now = time.time_ns()
        span = Span(
            trace_id=self.trace_id(trace),
            span_id=self.span_id(trace, place),
            parent_span_id=self.span_id(trace, 0) if place else b"",
            name=f"{trace} {place}",
            kind=Span.SPAN_KIND_CONSUMER if place == 1 else Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=now - SECOND // 10,
            end_time_unix_nano=now,
            attributes=key_values(self._attributes(trace, place)),
        )
        if (self.trouble, trace, place) == ("error", "mes", 2):
            span.status.code = Status.STATUS_CODE_ERROR
        return span

    def _attributes(self, trace: str, place: int) -> dict[str, Any]:
        """Every other order comes from a sender that knows nothing of buckets, or something wrong; roots know none."""
        found: dict[str, Any] = {"http.request.method": "POST", "url.path": f"/{trace}"}
        if place:
            found["order_id"] = self.id
        if place and self.number % 2:
            found["order_bucket"] = WRONG[self.number % len(WRONG)] if self.number % 3 == 0 else order_bucket(self.id)
        if place == 1:
            queue = {"pricing": "orders:pricing:pricing.requests", "mes": "orders:approved:mes.approved"}
            found["messaging.destination.name"] = queue.get(trace, "uploads")
            found["message_age_seconds"] = 700.5 if (self.trouble, trace) == ("slow", "pricing") else 0.2
            if (self.trouble, trace) == ("redelivered", "mes"):
                found["redelivered"] = True
        if (self.trouble, trace, place) == ("error_code", "pricing", 2):
            found["error_code"] = "no_volume"
        return found

    def events(self) -> list[dict[str, Any]]:
        """Return the order's event records."""
        return walk(self.id, *STATUSES, start=time.time_ns() - 60 * SECOND)


def request(spans: Iterable[Span], service: str = "mes-api") -> ExportTraceServiceRequest:
    """Return *spans* as one request."""
    made = ExportTraceServiceRequest()
    block = made.resource_spans.add()
    block.resource.attributes.extend(key_values({"service.name": service}))
    block.scope_spans.add().spans.extend(spans)
    return made


def in_groups(orders: Sequence[Order], size: int = 500) -> list[Sequence[Order]]:
    """Return *orders* as pieces that one request can hold."""
    return [orders[start : start + size] for start in range(0, len(orders), size)]
