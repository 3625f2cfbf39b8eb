"""One order: its story from the ledger, its traces from Tempo and Jaeger, its log lines from Loki.

Pure: from a lifecycle to a dashboard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import logs, loki, table, tempo
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.runtime import UnknownDataquery
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import tempo as tempo_model

from otel_orders import names
from otel_orders.generate import links, owners
from otel_orders.generate.dashboards import story, variables
from otel_orders.generate.dashboards.board import Board, Row
from otel_orders.generate.dashboards.panels import ALL, Panel, Question, asked
from otel_orders.generate.dashboards.queries import INFINITY, JAEGER, LOKI, TEMPO, ref_id, source

if TYPE_CHECKING:
    from otel_orders.lifecycle import Lifecycle

FOUND: Final = 50
"""Traces of one order, at most, in a list."""


class Searched(Builder[Dataquery]):
    """A search in Jaeger for one service's spans with the order; not all of its stores search all services at once."""

    def __init__(self, service: str, place: int) -> None:
        self._query: dict[str, Any] = {
            "refId": ref_id(place),
            "datasource": source(JAEGER).to_json(),
            "queryType": "search",
            "service": service,
            "tags": f'{names.ORDER_ID}="$order_id"',
            "limit": FOUND,
        }

    def build(self) -> Dataquery:
        """Return the query as Grafana reads it."""
        return UnknownDataquery(self._query)


def order(lifecycle: Lifecycle) -> Board:
    """Return the dashboard of one order."""
    return Board(
        uid=links.ORDER,
        title="Orders: one order",
        description="Type an order's id: its story, its traces and its log lines.",
        variables=(
            variables.typed("order_id", "Order", "", "The order's id, as the lifecycle's services write it."),
            variables.typed("trace_id", "Trace", "", "Which trace is shown; click one in the list of events."),
            *(variables.data_source(kind) for kind in (INFINITY, TEMPO, JAEGER, LOKI)),
        ),
        rows=(
            Row("What became of the order?", (story.now(), story.visited(lifecycle), story.happened(), story.odd())),
            Row("What did services do for it?", (_in_tempo(), _in_jaeger(lifecycle), _trace())),
            Row("What did they say?", (_logs(),)),
        ),
        since="now-7d",
        refresh="",
    )


def _in_tempo() -> Panel:
    search = tempo.Dataquery().ref_id("A").datasource(source(TEMPO)).query_type("traceql").limit(FOUND)
    search.query(f'{{ span.{names.ORDER_ID} = "$order_id" }} with (most_recent=true)')
    return asked(
        Question(
            "Which traces of the order has Tempo kept?",
            "string",
            "Nothing: its traces were ordinary and not of the share that is kept, or have expired; the events above "
            "are complete all the same. Tempo searches at most 7 days at once.",
        ),
        table.Panel().build(),
        [search.table_type(tempo_model.SearchTableType.TRACES)],
    )


def _in_jaeger(lifecycle: Lifecycle) -> Panel:
    listed = [service for services in owners.scraped_services(lifecycle).values() for service in services]
    return asked(
        Question(
            "Which traces of the order has Jaeger kept?",
            "string",
            "As Tempo's; choose the other Jaeger at the top for ordinary traces. An error instead: Jaeger 2 answers "
            "searches by its API v3 only, see the README.",
        ),
        table.Panel().build(),
        [Searched(service, place) for place, service in enumerate(listed)],
    )


def _trace() -> Panel:
    by_id = tempo.Dataquery().ref_id("A").datasource(source(TEMPO)).query_type("traceql").query("$trace_id")
    return asked(
        Question(
            "Where did the time of the chosen trace go?",
            "ns",
            "Click a trace in the list of events. Red spans failed; a long one without children is that service's own "
            "work. From a span, its log lines are one click away.",
            width=ALL,
            height=14,
        ),
        build.Panel().type("traces").build(),
        [by_id],
    )


def _logs() -> Panel:
    lines = loki.Dataquery().ref_id("A").datasource(source(LOKI)).query_type("range").max_lines(1000)
    lines.expr(f'{{service_name=~".+"}} | {names.ORDER_ID}="$order_id"')
    look = logs.Panel().show_time(show_time=True).wrap_log_message(wrap_log_message=True)
    look.enable_log_details(enable_log_details=True).sort_order(common_model.LogsSortOrder.ASCENDING)
    return asked(
        Question(
            "What did services say while they worked on the order?",
            "string",
            "Read from the first error on; a line's trace_id leads to its trace. Nothing: the time at the top is too "
            "narrow, or log lines do not go to Loki.",
            ("TelemetryLost",),
            width=ALL,
            height=14,
        ),
        look.build(),
        [lines],
    )
