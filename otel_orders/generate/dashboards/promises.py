"""Panels on promises, for the overview and for partners.  Pure."""

from __future__ import annotations

from typing import Final

from otel_orders import names
from otel_orders.generate.burn import SHARED
from otel_orders.generate.dashboards.panels import Limits, Panel, Question, lines
from otel_orders.generate.dashboards.queries import Query
from otel_orders.generate.dashboards.tables import Column, table

_CHOSEN: Final = '{sla=~"$sla",env=~"$env"}'
_OF_ALL: Final = '{sla=~"$sla"}'
"""Of what the lifecycle says, which is the same in each environment and has no label for it."""
_BURNS: Final = ("PromiseBurnsFast", "PromiseBurnsSlowly")


def kept() -> Panel:
    """Return how each promise does, and who may still be hurried."""
    return table(
        Question(
            f"Which promises were broken in the last {SHARED}, and which still can be kept?",
            "short",
            "Below its objective: see whose budget burns, beside, and where those orders wait, above. At risk: they "
            "have used 80 % of their time, so hurry them first.",
            (*_BURNS, "PromiseAtRisk", "PromiseOverdue"),
        ),
        {"sla": "Promise"},
        [
            Column("Within", f"max by (sla) (sla:order_sla_within_seconds{_OF_ALL})", "s"),
            Column("Objective", f"max by (sla) (sla:order_sla_objective:ratio{_OF_ALL})", "percentunit"),
            Column("Kept", f"1 - max by (sla) (sla:order_sla_breached:ratio{SHARED}{_CHOSEN})", "percentunit"),
            Column("At risk", f"sum by (sla) (sla:{names.SLA_AT_RISK}:max{_CHOSEN})", "short", Limits(1, 10)),
            Column("Overdue", f"sum by (sla) (sla:{names.SLA_OVERDUE}:max{_CHOSEN})", "short", Limits(0.5, 1)),
        ],
        sort="Within",
    )


def burning(chosen: str = _CHOSEN) -> Panel:
    """Return how fast each partner's budget of broken promises is used up.  chosen: the selector of promises."""
    broken, settled = (f"sla_partner:order_sla_{what}:increase{SHARED}{chosen}" for what in ("breached", "settled"))
    return lines(
        Question(
            "How many times as fast as allowed are promises broken, by partner?",
            "none",
            "1 uses up the budget exactly. One partner alone: its orders or its contract; all of them: the stage. Few "
            "orders make a wild line, and alerts ask for three broken ones at least.",
            (*_BURNS, "PartnerPromiseBroken"),
        ),
        Query(
            f"{broken}\n/ ({settled} > 0)\n/ on (sla) group_left ()\n(1 - sla:order_sla_objective:ratio)",
            "{{sla}}: {{partner}}",
        ),
        limits=Limits(1, 3),
    )
