"""What the ledger tells of single orders, which are no metrics: asked as JSON, by Grafana's Infinity plugin.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from grafana_foundation_sdk.builders import table as builder
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.runtime import UnknownDataquery
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import dashboard as model

from otel_orders.generate import links
from otel_orders.generate.dashboards.panels import Panel, Question, asked
from otel_orders.generate.dashboards.queries import INFINITY, source
from otel_orders.generate.dashboards.tables import Link, linked

if TYPE_CHECKING:
    from collections.abc import Sequence

WORST: Final = 20
"""Orders in the list of those that wait longest."""
_TO_ORDER: Final = Link("Order", "Its whole story", f"/d/{links.ORDER}?var-order_id=${{__value.raw}}")


class Told(Builder[Dataquery]):
    """A query of the ledger.

    path: of the ledger's API.  rows: a JSONata expression for the rows in the answer, with times in milliseconds.
    columns: the field of a row, its heading, and string, number or timestamp_epoch.
    """

    def __init__(self, path: str, rows: str, columns: Sequence[tuple[str, str, str]]) -> None:
        self._query: dict[str, Any] = {
            "refId": "A",
            "datasource": source(INFINITY).to_json(),
            "type": "json",
            "source": "url",
            "parser": "backend",
            "format": "table",
            "url": path,
            "url_options": {"method": "GET", "data": ""},
            "root_selector": rows,
            "columns": [{"selector": field, "text": text, "type": kind} for field, text, kind in columns],
            "filters": [],
        }

    def build(self) -> Dataquery:
        """Return the query as Grafana reads it."""
        return UnknownDataquery(self._query)


def longest_waiting() -> Panel:
    """Return the orders that have waited longest in the chosen status, each with a link to its story."""
    rows = '$map(orders, function($o) {{"order": $o.order_id, "since": $o.since / 1000000, "hold": $o.hold.why}})'
    look = builder.Panel().override_by_name("Order", [linked(_TO_ORDER)])
    look.override_by_name("Since", [model.DynamicConfigValue("unit", "dateTimeFromNow")])
    return asked(
        Question(
            f"Which {WORST} orders have waited longest in $status?",
            "string",
            "Click one for its whole story. If all came at the same time, something broke then; a single old one is "
            "that order's own. Empty with an error: the ledger is away, or Grafana lacks the Infinity plugin.",
            ("OrderStuck",),
            width=8,
            height=10,
        ),
        look.build(),
        [
            Told(
                f"/statuses/${{status:percentencode}}/orders?limit={WORST}",
                rows.replace("{{", "{").replace("}}", "}"),
                [("order", "Order", "string"), ("since", "Since", "timestamp_epoch"), ("hold", "On hold", "string")],
            )
        ],
    )
