"""Panels on what services tell of themselves.  Pure."""

from __future__ import annotations

from otel_orders import names
from otel_orders.generate.dashboards.panels import Limits, Panel, Question, bars, lines, numbers
from otel_orders.generate.dashboards.queries import OF_JOB, OF_SERVICE, Query
from otel_orders.generate.grown import grown


def telemetry() -> tuple[Panel, ...]:
    """Return whether each service is scraped, heard, complete, and of the same lifecycle as the ledger."""
    return _scraped(), _heard(), _lost(), _other_lifecycle()


def _scraped() -> Panel:
    return numbers(
        Question(
            "How many instances of each service does Prometheus reach?",
            "short",
            "None: the service is down, or its scrape is not configured with the service's name as its job; its errors "
            "are not seen until then.",
            ("ServiceNotScraped",),
            width=6,
        ),
        Query(f"sum by (job) (up{{{OF_JOB}}})", "{{job}}"),
        limits=Limits(1, 0.5),
    )


def _heard() -> Panel:
    return bars(
        Question(
            "How long ago was each service last heard?",
            "s",
            "Heartbeats come every 15 s. Longer: the service is down, or its events do not reach the ledger; then its "
            "stages become blind.",
            ("StageBlind",),
            width=6,
        ),
        Query(f"time() - service_name:{names.SERVICE_LAST_EVENT}:max{{{OF_SERVICE}}}", "{{service_name}}"),
        limits=Limits(60, 120),
    )


def _lost() -> Panel:
    return lines(
        Question(
            "What telemetry was lost in the last 10 minutes?",
            "short",
            "The service's log says why, once a minute. Refused: the ledger did not take it, another environment "
            "perhaps; else its endpoint is away. Orders are not harmed.",
            ("TelemetryLost",),
            width=6,
        ),
        Query(f"sum by (job, sink) (\n  {grown(names.SINK_FAILURES, OF_JOB, '10m')}\n)", "{{job}} {{sink}}"),
        limits=Limits(0.5, 10),
    )


def _other_lifecycle() -> Panel:
    return bars(
        Question(
            "How many instances run another lifecycle than the ledger?",
            "short",
            "During a rollout some do. Afterwards: deploy the same lifecycle.yaml to the service that is named, or "
            "restart the ledger with the new one.",
            ("LifecycleDiffers",),
            width=6,
        ),
        Query(f"service_name:{names.OTHER_LIFECYCLE}:max{{{OF_SERVICE}}}", "{{service_name}}"),
        limits=Limits(0.5, 1),
    )
