"""Alerts: which rule files there are, and what is in each.  Pure: from a lifecycle to the text of rule files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_orders.generate import alerts_ledger, alerts_orders, alerts_queues, alerts_services, alerts_telemetry
from otel_orders.generate.rule import HEAD, Alert, groups

if TYPE_CHECKING:
    from otel_orders.lifecycle import Lifecycle

Alerts = dict[str, dict[str, list[Alert]]]
"""Alerts by file and by group."""


def alerts(lifecycle: Lifecycle) -> Alerts:
    """Return all alerts of a lifecycle, by file and group."""
    return {
        "orders": {
            "otel-orders-stages": [*alerts_orders.stages(lifecycle)],
            "otel-orders-promised": [*alerts_orders.promises(lifecycle)],
            "otel-orders-arrivals": [*alerts_orders.arrivals()],
        },
        "queues": {
            "otel-orders-between": [*alerts_queues.queues(lifecycle)],
            "otel-orders-broker": [*alerts_queues.broker()] if lifecycle.queues else [],
        },
        "services": {
            "otel-orders-errors": [*alerts_services.errors(), *alerts_services.messages(lifecycle)],
            "otel-orders-silences": [*alerts_services.silences(lifecycle)],
            "otel-orders-disagreements": [*alerts_services.disagreements(lifecycle)],
        },
        "collector": {"otel-orders-collector": [*alerts_telemetry.collector()]},
        "ledger": {
            "otel-orders-ledger": [*alerts_ledger.ledger(lifecycle)],
            "otel-orders-store": [*alerts_ledger.store()],
            "otel-orders-watchdog": [*alerts_telemetry.watchdog()],
        },
    }


def flat(lifecycle: Lifecycle) -> list[Alert]:
    """Return all alerts in their order; several may have one name."""
    return [alert for file in alerts(lifecycle).values() for group in file.values() for alert in group]


def alerting(lifecycle: Lifecycle, grafana: str, runbooks: str) -> dict[str, str]:
    """Return rule files by name.  grafana, runbooks: the URLs below which both are."""
    at = (grafana.rstrip("/"), runbooks.rstrip("/"))
    head = HEAD.format(command="alerts", hash=lifecycle.hash)
    return {
        f"rules/{file}.yaml": head
        + groups({name: [alert.rule(*at) for alert in listed] for name, listed in grouped.items()})
        for file, grouped in alerts(lifecycle).items()
    }
