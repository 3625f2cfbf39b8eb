"""What the ledger tells of single orders, which are no metrics: asked as JSON, by Grafana's Infinity plugin.  Pure."""

from __future__ import annotations

from typing import Any, Final

from grafana_foundation_sdk.builders import table as builder
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.runtime import UnknownDataquery
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import dashboard as model

from otel_orders.generate import links
from otel_orders.generate.dashboards.panels import Panel, Question, asked
from otel_orders.generate.dashboards.queries import INFINITY, source
from otel_orders.generate.dashboards.tables import Link, linked

WORST: Final = 20
"""Orders in the list of those that wait longest."""
TEXT, NUMBER, TIME = "string", "number", "timestamp_epoch"
_STORY: Final = linked(Link("Order", "Its story", f"/d/{links.ORDER}?var-order_id=${{__value.raw:percentencode}}"))
SINCE_NOW: Final = model.DynamicConfigValue("unit", "dateTimeFromNow")
_LOOKS: Final = {
    "Since": [SINCE_NOW],
    "Limit used": [model.DynamicConfigValue("unit", "percentunit")],
    "Order": [_STORY],
}
"""How columns of such a list look."""


class Told(Builder[Dataquery]):
    """A query of the ledger.

    path: of the ledger's API.  rows: a JSONata expression for the rows in the answer; each column's field and heading
    are the same, and times are in milliseconds.  columns: string, number or timestamp_epoch, by heading.
    """

    def __init__(self, path: str, rows: str, columns: dict[str, str]) -> None:
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
            "columns": [{"selector": name, "text": name, "type": kind} for name, kind in columns.items()],
            "filters": [],
        }

    def build(self) -> Dataquery:
        """Return the query as Grafana reads it."""
        return UnknownDataquery(self._query)


def worst() -> Panel:
    """Return the orders that are worst off over all statuses, each with a link to its story."""
    return _orders(
        Question(
            f"Which {WORST} orders are furthest over their limit, or nearest to it?",
            "string",
            "Above 100 % the order is stuck: click it for its story, and ask whose move it is. Orders on hold are left "
            "out. An error instead: the ledger is away, or Grafana lacks the Infinity plugin.",
            ("OrderStuck",),
            width=24,
            height=10,
        ),
        "/orders",
        '"Status": status, "Whose move": owner, "Since": since / 1000000, "Limit used": used',
        {"Status": TEXT, "Whose move": TEXT, "Since": TIME, "Limit used": NUMBER},
    )


def longest_waiting() -> Panel:
    """Return the orders that have waited longest in the chosen status, each with a link to its story."""
    return _orders(
        Question(
            f"Which {WORST} orders have waited longest in $status?",
            "string",
            "Click one for its whole story. If all came at the same time, something broke then; a single old one is "
            "that order's own. An error instead: the ledger is away, or Grafana lacks the Infinity plugin.",
            ("OrderStuck",),
            width=8,
            height=10,
        ),
        "/statuses/${status:percentencode}/orders",
        '"Since": since / 1000000, "On hold": hold.why',
        {"Since": TIME, "On hold": TEXT},
    )


def _orders(asks: Question, path: str, told: str, columns: dict[str, str]) -> Panel:
    """Return a list of orders.  path: who lists them.  told: JSONata for what else is told of each, in *columns*."""
    look = builder.Panel()
    for heading in filter(_LOOKS.__contains__, (*columns, "Order")):
        look.override_by_name(heading, _LOOKS[heading])
    rows = f'orders.{{"Order": order_id, {told}}}'
    return asked(asks, look.build(), [Told(f"{path}?limit={WORST}", rows, {"Order": TEXT, **columns})])
