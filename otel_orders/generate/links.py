"""Where alerts lead: the dashboards by their uids, with what each is opened for.  Pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

OVERVIEW: Final = "otel-orders-overview"
QUEUES: Final = "otel-orders-queues"
SERVICES: Final = "otel-orders-services"
PARTNERS: Final = "otel-orders-partners"
CAPACITY: Final = "otel-orders-capacity"
ORDER: Final = "otel-orders-order"
TELEMETRY: Final = "otel-orders-telemetry"

OF_STATUS: Final = f"{OVERVIEW}?var-status={{{{ $labels.status | urlquery }}}}"
OF_SLA: Final = f"{OVERVIEW}?var-sla={{{{ $labels.sla | urlquery }}}}"
OF_QUEUE: Final = f"{QUEUES}?var-queue={{{{ $labels.queue | urlquery }}}}"
OF_SERVICE: Final = f"{SERVICES}?var-service_name={{{{ $labels.service_name | urlquery }}}}"
OF_PARTNER: Final = f"{PARTNERS}?var-partner={{{{ $labels.partner | urlquery }}}}"


def of_queue(name: str) -> str:
    """Return where to look at one queue, for rules whose series do not say which."""
    return f"{QUEUES}?var-queue={quote(name, safe='')}"


def of_service(name: str) -> str:
    """Return where to look at one service, for rules whose series do not say which."""
    return f"{SERVICES}?var-service_name={quote(name, safe='')}"
