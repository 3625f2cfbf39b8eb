"""The services: rate, errors and duration of what they answer, of their steps and messages; and their telemetry.

Pure: from a lifecycle to a dashboard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_orders import names
from otel_orders.generate import links, owners
from otel_orders.generate.dashboards import steps, variables
from otel_orders.generate.dashboards.board import Board, Row
from otel_orders.generate.dashboards.health import telemetry
from otel_orders.generate.dashboards.panels import Limits, Panel, Question, lines
from otel_orders.generate.dashboards.queries import OF_JOB, OF_SERVICE, PROMETHEUS, Query
from otel_orders.generate.dashboards.tables import Column, table

if TYPE_CHECKING:
    from otel_orders.lifecycle import Lifecycle

_SERVED: Final = f'{OF_SERVICE},audience=~"$audience"'
_FAILED: Final = 'http_response_status_code=~"5..|",error_type!~"cancelled|"'
"""Without a status code: no answer at all."""


def services(lifecycle: Lifecycle) -> Board:
    """Return the dashboard of the services."""
    listed = [name for names_ in owners.scraped_services(lifecycle).values() for name in names_]
    return Board(
        uid=links.SERVICES,
        title="Orders: services",
        description="What each service answers, how fast, and what fails in it: requests, steps of orders, messages.",
        variables=(
            variables.data_source(PROMETHEUS),
            variables.environment(),
            variables.chosen("service_name", "Service", listed),
            variables.chosen("audience", "Audience", ("internal", "external")),
        ),
        rows=(
            Row("Does it answer?", (_requests(), _errors(), _slow(), _routes())),
            Row("Does it move orders on?", (steps.failures(), steps.work())),
            Row("Does it reach others?", (steps.consumed(), steps.sent(), steps.calls())),
            Row("Does it tell us?", telemetry()),
        ),
    )


def _requests() -> Panel:
    return lines(
        Question(
            "How many requests does each service answer?",
            "reqps",
            "A drop to nothing: it is down, or its callers are. External requests that fall alone: see the way in, "
            "DNS, proxy and certificates.",
            width=8,
        ),
        Query(f"service_name_audience:http_server_requests:rate5m{{{_SERVED}}}", "{{service_name}} {{audience}}"),
    )


def _errors() -> Panel:
    failed, all_ = (f"service_name_audience:http_server_{what}:rate5m{{{_SERVED}}}" for what in ("errors", "requests"))
    return lines(
        Question(
            "Which share of requests fails (5xx, or no answer)?",
            "percentunit",
            "See which route below, then its traces with an error in Tempo. External: 1 % pages, since a caller "
            "outside sees each failure; internal: 5 % warns, since our own try again.",
            ("ServerErrors",),
            width=8,
        ),
        Query(f"{failed} / ({all_} > 0)", "{{service_name}} {{audience}}"),
        limits=Limits(0.01, 0.05),
    )


def _slow() -> Panel:
    level = "service_name_audience_le:http_server_request_duration_seconds_bucket:rate5m"
    return lines(
        Question(
            "How slow are the slowest 5 % of answers?",
            "s",
            "Compare with the calls that the service itself makes, below: if those are slow too, go on there.",
            width=8,
        ),
        Query(
            f"histogram_quantile(0.95, sum by (service_name, audience, le) ({level}{{{_SERVED}}}))",
            "{{service_name}} {{audience}}",
        ),
    )


def _routes() -> Panel:
    def of(part: str, selector: str = "") -> str:
        return f'rate({names.HTTP_SERVER_DURATION}_{part}{{{OF_JOB},audience=~"$audience"{selector}}}[5m])'

    by = "job, http_route, audience"
    failing = f"sum by ({by}) ({of('count', ',' + _FAILED)}) or 0 * sum by ({by}) ({of('count')})"
    return table(
        Question(
            "Which route fails, or is slow?",
            "short",
            "Begin with the highest share of failures. A route that is missing gets no requests.",
            ("ServerErrors",),
            width=24,
        ),
        {"job": "Service", "http_route": "Route", "audience": "Audience"},
        [
            Column("Requests", f"sum by ({by}) ({of('count')})", "reqps"),
            Column("Failing", failing, "reqps", Limits(0.001, 0.01)),
            Column("p95", f"histogram_quantile(0.95, sum by (job, http_route, audience, le) ({of('bucket')}))", "s"),
        ],
        sort="Failing",
        descending=True,
    )
