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
    look = builder.Panel().override_by_name("Since", [SINCE_NOW])
    look.override_by_name("Limit used", [model.DynamicConfigValue("unit", "percentunit")])
    look.override_by_name("Order", [_STORY])
    return asked(
        Question(
            f"Which {WORST} orders are furthest over their limit, or nearest to it?",
            "string",
            "Above 100 % the order is stuck: click it for its story, and ask whose move it is. Orders on hold are left "
            "out. An error instead: the ledger is away, or Grafana lacks the Infinity plugin.",
            ("OrderStuck",),
            width=24,
            height=10,
        ),
        look.build(),
        [
            Told(
                f"/orders?limit={WORST}",
                'orders.{"Order": order_id, "Status": status, "Whose move": owner, "Since": since / 1000000, '
                '"Limit used": used}',
                {"Order": TEXT, "Status": TEXT, "Whose move": TEXT, "Since": TIME, "Limit used": NUMBER},
            )
        ],
    )


def longest_waiting() -> Panel:
    """Return the orders that have waited longest in the chosen status, each with a link to its story."""
    look = builder.Panel().override_by_name("Since", [SINCE_NOW])
    look.override_by_name("Order", [_STORY])
    return asked(
        Question(
            f"Which {WORST} orders have waited longest in $status?",
            "string",
            "Click one for its whole story. If all came at the same time, something broke then; a single old one is "
            "that order's own. An error instead: the ledger is away, or Grafana lacks the Infinity plugin.",
            ("OrderStuck",),
            width=8,
            height=10,
        ),
        look.build(),
        [
            Told(
                f"/statuses/${{status:percentencode}}/orders?limit={WORST}",
                'orders.{"Order": order_id, "Since": since / 1000000, "On hold": hold.why}',
                {"Order": TEXT, "Since": TIME, "On hold": TEXT},
            )
        ],
    )
