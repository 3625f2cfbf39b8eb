"""What the ledger tells of single orders, which are no metrics: asked as JSON, by Grafana's Infinity plugin.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from grafana_foundation_sdk.builders import statetimeline
from grafana_foundation_sdk.builders import table as builder
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.runtime import UnknownDataquery
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import dashboard as model

from otel_orders.generate import links
from otel_orders.generate.dashboards.panels import Panel, Question, asked, meaning
from otel_orders.generate.dashboards.queries import INFINITY, source
from otel_orders.generate.dashboards.tables import Link, linked

if TYPE_CHECKING:
    from otel_orders.lifecycle import Lifecycle

WORST: Final = 20
"""Orders in the list of those that wait longest."""
_STORY: Final = "/orders/${order_id:percentencode}"
_TEXT, _NUMBER, _TIME = "string", "number", "timestamp_epoch"
_SINCE_NOW: Final = model.DynamicConfigValue("unit", "dateTimeFromNow")
_PALETTE: Final = ("blue", "purple", "orange", "yellow", "semi-dark-blue", "semi-dark-purple", "semi-dark-orange")


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


def longest_waiting() -> Panel:
    """Return the orders that have waited longest in the chosen status, each with a link to its story."""
    look = builder.Panel().override_by_name("Since", [_SINCE_NOW])
    look.override_by_name(
        "Order", [linked(Link("Order", "Its story", f"/d/{links.ORDER}?var-order_id=${{__value.raw:percentencode}}"))]
    )
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
                {"Order": _TEXT, "Since": _TIME, "On hold": _TEXT},
            )
        ],
    )


def now() -> Panel:
    """Return where one order is."""
    look = builder.Panel().override_by_name("Since", [_SINCE_NOW])
    look.override_by_name("Stuck from", [_SINCE_NOW])
    return asked(
        Question(
            "Where is the order, and whose move is it?",
            "string",
            "Stuck: ask the owner, and tell the customer. Nothing, or an error: no event of this order has come, so "
            "look at the status of its neighbours and at Collector and ledger.",
            ("OrderStuck",),
            width=24,
            height=4,
        ),
        look.build(),
        [
            Told(
                _STORY,
                '{"Status": status, "Whose move": owner, "Since": since / 1000000, "Stuck": stuck ? "yes" : "no", '
                '"Stuck from": stuck_at / 1000000, "Partner": partner_id, "On hold": hold.why}',
                {
                    "Status": _TEXT,
                    "Whose move": _TEXT,
                    "Since": _TIME,
                    "Stuck": _TEXT,
                    "Stuck from": _TIME,
                    "Partner": _TEXT,
                    "On hold": _TEXT,
                },
            )
        ],
    )


def visited(lifecycle: Lifecycle) -> Panel:
    """Return the statuses of one order over time."""
    look = statetimeline.Panel().merge_values(merge_values=False).row_height(0.8).fill_opacity(80)
    colours = [(name, name, _PALETTE[place % len(_PALETTE)]) for place, name in enumerate(lifecycle.statuses)]
    look.mappings([meaning(colours)])
    return asked(
        Question(
            "Which statuses did the order pass, and how long did it stay in each?",
            "string",
            "Widen the time at the top until its beginning is seen. The longest bar is where it waited: look at that "
            "stage on the overview at that time.",
            width=24,
            height=5,
        ),
        look.build(),
        [Told(_STORY, 'visits.{"Time": entered_at / 1000000, "Status": status}', {"Time": _TIME, "Status": _TEXT})],
    )


def happened() -> Panel:
    """Return the events of one order."""
    again = f"/d/{links.ORDER}?var-order_id=${{order_id:percentencode}}&var-trace_id=${{__value.raw}}"
    look = builder.Panel().override_by_name("Trace", [linked(Link("Trace", "Show this trace below", again))])
    look.override_by_name("Took", [model.DynamicConfigValue("unit", "ms")])
    return asked(
        Question(
            "What happened to the order, one event after another?",
            "string",
            "An error names its code: look for it in the logs below. Click a trace to see it below; traces of ordinary "
            "orders are kept for some only.",
            ("ServiceErrorsGrowing",),
            width=14,
            height=10,
        ),
        look.build(),
        [
            Told(
                _STORY,
                'events.{"Time": occurred_at / 1000000, "Event": event_type, "From": from_status, "To": to_status, '
                '"Service": service, "Took": duration / 1000000, "Error": error_code, "Trace": trace_id}',
                {
                    "Time": _TIME,
                    "Event": _TEXT,
                    "From": _TEXT,
                    "To": _TEXT,
                    "Service": _TEXT,
                    "Took": _NUMBER,
                    "Error": _TEXT,
                    "Trace": _TEXT,
                },
            )
        ],
    )


def odd() -> Panel:
    """Return what is not as it should be with one order's history."""
    return asked(
        Question(
            "Is anything odd about its history?",
            "string",
            "A missing event: the service that is named did not tell, or its telemetry was lost. Clocks that differ "
            "make ages wrong. Nothing here is as it should be.",
            ("ClocksDiffer",),
            width=10,
            height=10,
        ),
        builder.Panel().build(),
        [Told(_STORY, 'oddities.{"What": $}', {"What": _TEXT})],
    )
