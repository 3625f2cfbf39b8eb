"""Panels on one order's story, as the ledger tells it.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.builders import statetimeline
from grafana_foundation_sdk.builders import table as builder
from grafana_foundation_sdk.models import dashboard as model

from otel_orders.generate import links
from otel_orders.generate.dashboards.ledger import NUMBER, SINCE_NOW, TEXT, TIME, Told
from otel_orders.generate.dashboards.panels import Panel, Question, asked, meaning
from otel_orders.generate.dashboards.tables import Link, linked

if TYPE_CHECKING:
    from otel_orders.lifecycle import Lifecycle


def now() -> Panel:
    """Return where one order is."""
    look = builder.Panel().override_by_name("Since", [SINCE_NOW])
    look.override_by_name("Stuck from", [SINCE_NOW])
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
                    "Status": TEXT,
                    "Whose move": TEXT,
                    "Since": TIME,
                    "Stuck": TEXT,
                    "Stuck from": TIME,
                    "Partner": TEXT,
                    "On hold": TEXT,
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
        [Told(_STORY, 'visits.{"Time": entered_at / 1000000, "Status": status}', {"Time": TIME, "Status": TEXT})],
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
            width=16,
            height=10,
        ),
        look.build(),
        [
            Told(
                _STORY,
                'events.{"Time": occurred_at / 1000000, "Event": event_type, "From": from_status, "To": to_status, '
                '"Service": service, "Took": duration / 1000000, "Error": error_code, "Trace": trace_id}',
                {
                    "Time": TIME,
                    "Event": TEXT,
                    "From": TEXT,
                    "To": TEXT,
                    "Service": TEXT,
                    "Took": NUMBER,
                    "Error": TEXT,
                    "Trace": TEXT,
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
            width=8,
            height=10,
        ),
        builder.Panel().build(),
        [Told(_STORY, 'oddities.{"What": $}', {"What": TEXT})],
    )


_STORY: Final = "/orders/${order_id:percentencode}"


_PALETTE: Final = ("blue", "purple", "orange", "yellow", "semi-dark-blue", "semi-dark-purple", "semi-dark-orange")
