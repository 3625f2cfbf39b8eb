"""Alerts on orders: stuck, their stages, their promises, and how many come.  Pure: from a lifecycle to alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_orders import names
from otel_orders.generate import burn, links, owners
from otel_orders.generate.rule import Alert, quoted
from otel_orders.generate.rules import grown_in_store
from otel_orders.generate.words import COUNT, LENGTH, RATE, SHARE, asked, either, said

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_orders.lifecycle import Lifecycle, Sla

_DAY = 86_400.0
_OF_STATUS = "{env=%q,status=%q}"
_OLDEST = either(
    f"time() - status:{names.OLDEST_ENTERED}:max{_OF_STATUS}",
    "env",
    "status",
    shown=LENGTH,
    before=" The oldest has waited for ",
    after=".",
)
_ON_HOLD = either(
    f"status:{names.ON_HOLD}:max{_OF_STATUS} > 0",
    "env",
    "status",
    shown=COUNT,
    before=" On hold, and not counted: ",
    after=".",
)
_WAITING = asked(f"status:{names.IN_STATUS}:max{_OF_STATUS}", "env", "status", shown=COUNT)


def stages(lifecycle: Lifecycle) -> Iterator[Alert]:
    """Yield whether it is the telemetry, the stage or the order: what the ledger has judged."""
    limit = asked(f"status:{names.STUCK_AFTER}:max{_OF_STATUS}", "env", "status", shown=LENGTH)
    if any(status.stuck_after for status in lifecycle.statuses.values()):
        yield Alert(
            name="OrderStuck",
            expr=f"status:{names.STUCK}:max > 0",
            severity="critical",
            summary="{{ $value }} order(s) stuck in {{ $labels.status }}",
            description=(
                f"{{{{ $value }}}} order(s) have been in {{{{ $labels.status }}}} for longer than {limit}; "
                f"{_WAITING} wait there in all.{_OLDEST}{_ON_HOLD} Whose move it is: {{{{ $labels.owner }}}}."
            ),
            dashboard=links.OF_STATUS,
            hold="1m",
            keep="5m",
            why=(
                "The limit itself is the lifecycle's stuck_after, in days, so a minute more only bridges a scrape. An "
                "order that moves on and another that takes its place are one page: it is kept for 5 minutes."
            ),
        )
    if any(status.stalled_after for status in lifecycle.statuses.values()):
        yield Alert(
            name="StageStalled",
            expr=f"status:{names.STAGE_STALLED}:max == 1",
            severity="critical",
            summary="No order leaves {{ $labels.status }}",
            description=(
                f"{_WAITING} order(s) wait in {{{{ $labels.status }}}} and none has left for much longer than usual at "
                f"this hour.{_OLDEST}{_ON_HOLD} Whose move it is: {{{{ $labels.owner }}}}."
            ),
            dashboard=links.OF_STATUS,
            hold="1m",
            keep="5m",
            why=(
                "The ledger has waited for stalled_after, or 4 usual gaps, before it says so, and has a hysteresis of "
                "its own; a minute bridges a scrape, and 5 minutes an exporter's restart."
            ),
        )
    if any(owner.heartbeat for owner in lifecycle.owners.values()):
        yield Alert(
            name="StageBlind",
            expr=f"status:{names.STAGE_BLIND}:max == 1",
            severity="critical",
            summary="Nobody can tell whether orders leave {{ $labels.status }}",
            description=(
                "The services of {{ $labels.owner }} that move orders on from {{ $labels.status }} send no heartbeat "
                f"any more, so that silence says nothing. {_WAITING} order(s) were there when they were last heard."
            ),
            dashboard=links.OF_STATUS,
            hold="1m",
            keep="5m",
            why=(
                "The ledger has waited for the owner's quiet_after; a deployment that takes longer than that and a "
                "minute is worth a look. Kept for 5 minutes, since a service that crashes in a loop comes and goes."
            ),
        )


def promises(lifecycle: Lifecycle) -> Iterator[Alert]:
    """Yield which promises are being broken, and which will be."""
    for sla in lifecycle.slas.values():
        yield _burning(sla, "PromiseBurnsFast", burn.fast(sla))
        yield _burning(sla, "PromiseBurnsSlowly", burn.slow(sla))
    long = "(sla:order_sla_within_seconds >= 86400)"
    if any(sla.within.seconds >= _DAY for sla in lifecycle.slas.values()):
        yield Alert(
            name="PromiseAtRisk",
            expr=f"sla:{names.SLA_AT_RISK}:max > 0\nand on (sla) {long}",
            severity="warning",
            summary="{{ $value }} order(s) will soon break {{ $labels.sla }}",
            description=(
                "{{ $value }} order(s) have used 80 % of the time of {{ $labels.sla }} ("
                + asked("sla:order_sla_within_seconds{sla=%q}", "sla", shown=LENGTH)
                + ") and are not there yet: there is still time to hurry them."
            ),
            dashboard=links.OF_SLA,
            hold="5m",
            keep="30m",
            why=(
                "The remaining fifth of a long promise is hours or days, so 5 minutes cost nothing; orders enter and "
                "leave this state one by one, so it is kept for half an hour."
            ),
        )
        yield Alert(
            name="PromiseOverdue",
            expr=f"sla:{names.SLA_OVERDUE}:max > 0\nand on (sla) {long}",
            severity="warning",
            summary="{{ $value }} order(s) have broken {{ $labels.sla }} and still wait",
            description=(
                "{{ $value }} order(s) are past the deadline of {{ $labels.sla }} ("
                + asked("sla:order_sla_within_seconds{sla=%q}", "sla", shown=LENGTH)
                + ") and still not there: their customers wait, and do not know for how long."
            ),
            dashboard=links.OF_SLA,
            hold="5m",
            keep="30m",
            why="As PromiseAtRisk: days have passed already, and orders come and go one by one.",
        )
    for sla in lifecycle.slas.values():
        yield _partner(sla, owners.last_step(sla, lifecycle).owner)


def _burning(sla: Sla, name: str, asked_for: burn.Burn) -> Alert:
    long, short, share, multiplier = asked_for
    this = f"{{sla={quoted(sla.name)}}}"
    worst = f"topk(1, sla_partner:order_sla_breached:increase{long}{{env=%q,sla=%q}} > 0)"
    partner = ' Most for {{ . | first | label "partner" }}.'
    who = f'{{{{ with printf "{worst}" $labels.env $labels.sla | query }}}}{partner}{{{{ end }}}}'
    fast = name == "PromiseBurnsFast"
    return Alert(
        name=name,
        expr=(
            f"sla:order_sla_breached:ratio{long}{this} > {share}\n"
            f"and sla:order_sla_breached:ratio{short}{this} > {share}\n"
            f"and sla:order_sla_breached:increase{long}{this} > {burn.FEWEST - 0.5}"
        ),
        severity="critical" if fast else "warning",
        summary=f"{said(sla.name)} is broken for {{{{ $value | {SHARE} }}}} of orders",
        description=(
            f"In the last {long}, {{{{ $value | {SHARE} }}}} of the orders broke {said(sla.name)} (within "
            f"{sla.within}); {(1 - sla.objective) * 100:.4g} % may: {multiplier:g} times as fast as allowed, or "
            f"faster, in the last {short} too.{who}"
        ),
        dashboard=links.OF_SLA,
        hold="2m",
        keep="5m" if fast else "1h",
        why=(
            "The two windows are the wait: the long one says that it matters, the short one that it goes on. 2 minutes "
            "bridge a scrape; it is kept so that a lull between two late orders is no end."
        ),
        labels={"sla": sla.name},
    )


def _partner(sla: Sla, owner: str) -> Alert:
    selected = f'{{sla={quoted(sla.name)},partner!="retail"}}'
    breached = grown_in_store("sla_partner:order_sla_breached:max", selected, "15m")
    return Alert(
        name="PartnerPromiseBroken",
        expr=f"max by (env, sla, partner) ({breached}) > 0.5",
        severity="info",
        summary=f"Orders of {{{{ $labels.partner }}}} are later than {sla.within}",
        description=(
            f'{{{{ $value | printf "%.0f" }}}} order(s) of {{{{ $labels.partner }}}} broke {said(sla.name)} (within '
            f"{sla.within}, from {sla.start_status} to {sla.end_status}) in the last 15 minutes."
        ),
        dashboard=links.OF_PARTNER,
        hold="0s",
        keep="15m",
        why="A breach is counted once, 2 minutes after its deadline: there is nothing to wait for.",
        labels={"owner": owner, "sla": sla.name, "notify": "partner"},
    )


def arrivals() -> Iterator[Alert]:
    """Yield whether fewer or far more orders come than used to."""
    usual = asked("env:orders_created:increase1h_usual{env=%q}", "env", shown=COUNT)
    if_known = either(
        "env:orders_created:increase1h_usual{env=%q}",
        "env",
        shown=COUNT,
        before="; at this hour of the past weeks it was ",
        after=" in an hour",
    )
    yield Alert(
        name="OrderCreationFalling",
        expr=(
            "env:orders_created:increase1h < 0.5 * env:orders_created:increase1h_usual\n"
            "and env:orders_created:increase1h_usual >= 10"
        ),
        severity="critical",
        summary="Fewer than half as many orders come as usual at this hour",
        description=(
            f"{{{{ $value | {COUNT} }}}} orders were created in the last hour; at this hour of the past weeks it was "
            f"{usual} (the median of up to 4 weeks)."
        ),
        dashboard=links.CAPACITY,
        hold="15m",
        keep="15m",
        why=(
            "It looks at a whole hour, so 15 minutes more tell a lull from an outage; errors of the services where "
            "orders begin page sooner. Hours with fewer than 10 orders say nothing. Prometheus must keep at least a "
            "week."
        ),
    )
    yield Alert(
        name="OrderCreationSurging",
        expr=(
            "env:orders_created:rate5m > 0.2\n"
            "and env:orders_created:rate5m > 3 * (\n"
            "  env:orders_created:increase1h_usual / 3600\n"
            "  or avg_over_time(env:orders_created:rate5m[1d] offset 15m)\n)"
        ),
        severity="warning",
        summary=f"{{{{ $value | {RATE} }}}} orders a second: over 3 times as many as usual",
        description=(f"{{{{ $value | {RATE} }}}} orders are created in a second, over the last 5 minutes{if_known}."),
        dashboard=links.CAPACITY,
        hold="5m",
        keep="15m",
        why=(
            "A batch of a partner is over within 5 minutes; a flood goes on. Below 0.2 orders a second the pipeline "
            "copes with anything. Without past weeks, the day before says what is usual."
        ),
    )
