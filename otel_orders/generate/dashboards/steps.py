"""Panels on what services do for orders: their steps, their messages, and their calls to others.  Pure."""

from __future__ import annotations

from otel_orders import names
from otel_orders.generate.dashboards.panels import Panel, Question, lines
from otel_orders.generate.dashboards.queries import OF_JOB, OF_SERVICE, Query
from otel_orders.generate.grown import grown


def failures() -> Panel:
    """Return which steps fail, by error."""
    failed = grown(names.TRANSITION_FAILURES, OF_SERVICE, "15m")
    return lines(
        Question(
            "Which steps fail, and with which error, in 15 minutes?",
            "short",
            "Look the error_code up in the service's code, and one such order on One order. One code alone is a "
            "dependency or a kind of order; many at once are the service.",
            ("ServiceErrorsGrowing",),
        ),
        Query(
            f"sum by (service_name, to_status, error_code) (\n  {failed}\n) > 0",
            "{{service_name}} to {{to_status}}: {{error_code}}",
        ),
    )


def work() -> Panel:
    """Return how long the work takes."""
    buckets = f"rate({names.TRANSITION_DURATION}_bucket{{{OF_SERVICE}}}[5m])"
    return lines(
        Question(
            "How long does the work of a step take?",
            "s",
            "Diamonds are traces of kept orders: open one that is high, and see where its time goes.",
            ("WorkSlow",),
        ),
        Query(
            f"histogram_quantile(0.95, sum by (service_name, to_status, le) ({buckets}))",
            "{{service_name}} to {{to_status}}",
            exemplars=True,
        ),
    )


def consumed() -> Panel:
    """Return which messages were not settled as they should."""
    return lines(
        Question(
            "Which messages does it not get done?",
            "mps",
            "Requeued: it will be tried again, and may loop. Rejected or nacked: given up. See the failing steps above "
            "for why.",
            ("ConsumeErrors", "DeadLetters"),
            width=8,
        ),
        Query(
            f'service_name_outcome:messages_processed:rate5m{{{OF_SERVICE},outcome=~"nack|reject|requeue"}}',
            "{{service_name}} {{outcome}}",
        ),
    )


def sent() -> Panel:
    """Return which messages could not be published."""
    return lines(
        Question(
            "Which messages can it not send?",
            "mps",
            "Returned: nobody is bound to it. Nacked: the broker refuses. Error: no connection. Orders stay where they "
            "are until it is sent again.",
            ("PublishErrors",),
            width=8,
        ),
        Query(
            f'service_name_outcome:messages_sent:rate5m{{{OF_SERVICE},outcome=~"returned|nacked|error"}}',
            "{{service_name}} {{outcome}}",
        ),
    )


def calls() -> Panel:
    """Return which requests to others fail."""
    failed = f'rate({names.HTTP_CLIENT_DURATION}_count{{{OF_JOB},error_type!=""}}[5m])'
    return lines(
        Question(
            "Which calls to others fail, each retry counted?",
            "reqps",
            "The host that is named is the one to look at, or what lies between. Each retry counts for itself, so a "
            "growing line with steady traffic is retries.",
            width=8,
        ),
        Query(f"sum by (job, server_address, error_type) ({failed})", "{{job}} to {{server_address}}: {{error_type}}"),
    )
