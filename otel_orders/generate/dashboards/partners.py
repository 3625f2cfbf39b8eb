"""B2B partners: how much each sends, what it is answered and refused, and what becomes of what it was promised.

Pure: from a lifecycle to a dashboard.  HTTP metrics have no partner: who calls is known from a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_orders import names
from otel_orders.generate import links
from otel_orders.generate.burn import SHARED
from otel_orders.generate.dashboards import variables
from otel_orders.generate.dashboards.board import Board, Row
from otel_orders.generate.dashboards.panels import Limits, Panel, Question, lines
from otel_orders.generate.dashboards.promises import burning
from otel_orders.generate.dashboards.queries import ENV, PROMETHEUS, Query
from otel_orders.generate.dashboards.tables import Column, table
from otel_orders.generate.grown import grown
from otel_orders.generate.rule import one_of

if TYPE_CHECKING:
    from otel_orders.lifecycle import Lifecycle

_EXTERNAL: Final = f'audience="external",{ENV}'
_PARTNER: Final = f'partner=~"$partner",{ENV}'
_PROMISED: Final = f'{{sla=~"$sla",{_PARTNER}}}'


def partners(lifecycle: Lifecycle) -> Board:
    """Return the dashboard of those who send orders by the API, and of what they were promised."""
    rows = [
        Row("What do partners send?", (_orders(lifecycle), _requests())),
        Row("What are they answered?", (_latency(), _refusals())),
    ]
    if lifecycle.milestones:
        rows.append(Row("How long do their orders take?", (_milestones(),)))
    promised = (variables.chosen("sla", "Promise", lifecycle.slas),)
    if lifecycle.slas:
        rows.append(Row("Are promises to them kept?", (_promises(), burning(_PROMISED))))
    return Board(
        uid=links.PARTNERS,
        title="Orders: B2B partners",
        description="What each partner sends, is answered and refused, and whether promises to it are kept.",
        variables=(
            variables.data_source(PROMETHEUS),
            variables.environment(),
            variables.chosen("partner", "Partner", [*sorted(lifecycle.partners.named), "other", "retail"]),
            *(promised if lifecycle.slas else ()),
        ),
        rows=tuple(rows),
        since="now-24h",
    )


def _orders(lifecycle: Lifecycle) -> Panel:
    first = one_of(status.name for status in lifecycle.statuses.values() if status.initial)
    left = f'increase({names.TIME_IN_STATUS}_count{{status=~"{first}",{_PARTNER}}}[1h])'
    return lines(
        Question(
            "How many orders does each partner send in an hour?",
            "short",
            "A partner that falls to nothing: ask it, and look at its refusals. One that floods: its quota, and the "
            "oldest message of the queues. Orders count once they have left their first status.",
            ("OrderCreationSurging",),
        ),
        Query(f"sum by (partner) (max by (env, status, partner) ({left}))", "{{partner}}", step="5m"),
    )


def _requests() -> Panel:
    return lines(
        Question(
            "How many requests come from outside, by route?",
            "reqps",
            "Many requests and few orders: a partner asks for the state of its orders again and again, or is refused.",
        ),
        Query(
            f"sum by (http_route) (rate({names.HTTP_SERVER_DURATION}_count{{{_EXTERNAL}}}[5m]))",
            "{{http_route}}",
        ),
    )


def _latency() -> Panel:
    buckets = f"sum by (http_route, le) (rate({names.HTTP_SERVER_DURATION}_bucket{{{_EXTERNAL}}}[5m]))"
    return lines(
        Question(
            "How long do partners wait for an answer?",
            "s",
            "Their clients give up after seconds: a slow route here becomes retries, and twice the load. See the "
            "service of the route on Services.",
            ("ServerErrors",),
        ),
        *(
            Query(f"histogram_quantile({share}, {buckets})", f"{{{{http_route}}}} {called}")
            for share, called in ((0.5, "median"), (0.95, "p95"))
        ),
    )


def _refusals() -> Panel:
    selector = f'{_EXTERNAL},http_response_status_code=~"4.."'
    refused = grown(f"{names.HTTP_SERVER_DURATION}_count", selector, "15m")
    return lines(
        Question(
            "What is refused in 15 minutes, and why?",
            "short",
            "429: a quota is used up; raise it, or tell the partner. 401 and 403: a key that is wrong or has ended. "
            "400 and 422: the partner changed its software.",
        ),
        Query(
            f"sum by (http_route, http_response_status_code) (\n  {refused}\n) > 0",
            "{{http_response_status_code}} {{http_route}}",
        ),
    )


def _milestones() -> Panel:
    buckets = f"increase({names.MILESTONE}_bucket{{{_PARTNER}}}[1d])"
    return table(
        Question(
            "How long do the orders of each partner take?",
            "s",
            "Of the last day, by milestone. One partner far slower than the others: its orders "
            "are unusual; all slow: see the overview.",
            width=24,
        ),
        {"milestone": "Milestone", "partner": "Partner"},
        [
            Column(
                heading,
                f"histogram_quantile({share}, sum by (milestone, partner, le) (\n  max by "
                f"(env, milestone, partner, le) ({buckets})\n))",
                "s",
            )
            for heading, share in (("p95", 0.95), ("median", 0.5))
        ],
        sort="p95",
        descending=True,
    )


def _promises() -> Panel:
    broken, settled = (f"sla_partner:order_sla_{what}:increase{SHARED}{_PROMISED}" for what in ("breached", "settled"))
    by = "sum by (sla, partner)"
    return table(
        Question(
            f"Which promises were kept in the last {SHARED}, by partner?",
            "short",
            "Tell the partner before it asks: the webhook for delays has told it of single orders. Broken for one "
            "partner only: look at its orders; for all: at the stage.",
            ("PartnerPromiseBroken",),
        ),
        {"sla": "Promise", "partner": "Partner"},
        [
            Column("Settled", f"{by} ({settled})", "short"),
            Column("Broken", f"{by} ({broken})", "short", Limits(0.5, 1)),
            Column("Kept", f"1 - {by} ({broken}) / ({by} ({settled}) > 0)", "percentunit"),
        ],
        sort="Broken",
        descending=True,
    )
