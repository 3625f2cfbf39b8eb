"""``otel-orders report``: the business figures of a ledger's store."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from otel_orders.cli.ledger_store import LifecycleFile, StoreUrl, existing, plan_of
from otel_orders.errors import ConfigurationError
from otel_orders.ledger.dates import FORMS, moment
from otel_orders.ledger.figures import report as figures
from otel_orders.ledger.report import Report, Selection, rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_orders.ledger.report import Times


def report(  # noqa: PLR0917 - typer calls it by name
    store: StoreUrl,
    lifecycle: LifecycleFile = "lifecycle.yaml",
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help=f"Orders that began from then on: {FORMS} ago.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="DATE", help="Orders that began before then.")] = None,
    partner: Annotated[str | None, typer.Option(metavar="ID", help="Orders of this partner only.")] = None,
    status: Annotated[str | None, typer.Option(metavar="STATUS", help="Tell about this status only.")] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV: table, name, partner, figure, value.")] = False,
) -> None:
    """Tell how many orders are stuck, how far they come, how long it takes, and which promises are kept.

    Exact: every order is told anew from its events. Times count the orders that still wait (Kaplan-Meier), since an
    average over finished ones hides those that are stuck. A running ledger is not held up.
    """
    now = time.time_ns()
    chosen = Selection(_moment("--since", since, now), _moment("--until", until, now), partner, status)
    with existing(store) as opened:
        plan = plan_of(opened, lifecycle)
        if status is not None and plan.lifecycle.status(status) is None:
            raise ConfigurationError(f"--status {status}: the lifecycle has {', '.join(plan.lifecycle.statuses)}")
        found = figures(opened, plan, chosen, now)
    if json:
        typer.echo(msgspec.json.encode(found).decode())
    elif csv:
        sys.stdout.writelines(rows(found))
    else:
        _show(found)


def _moment(option: str, text: str | None, now: int) -> int | None:
    try:
        return None if text is None else moment(text, now, -1)
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}") from None


def _show(found: Report) -> None:
    stuck = f"{found.stuck_share:.1%} of them" if found.stuck_share is not None else "none waits"
    typer.echo(
        f"{found.orders} orders, {found.waiting} wait, {found.stuck} are stuck ({stuck}), {found.on_hold} on hold"
    )
    if found.unreadable:
        typer.echo(f"{found.unreadable} rows cannot be read and count nowhere: see otel-orders ledger check")
    reached = ((step.status, step.orders, f"{step.share:.1%}") for step in found.reached)
    _print("How far they come", ("status", "orders", "of all"), reached)
    times = ("finished", "waiting", "average", "half within", "95 % within")
    stays = ((stay.status, *_times(stay.times)) for stay in found.stays)
    _print("Time in status", ("status", *times), stays)
    spans = ((span.name, *_times(span.times), span.void) for span in found.spans)
    _print("Milestones and promises", ("name", *times, "void"), spans)
    promises = (
        (
            one.sla,
            one.partner,
            one.met,
            one.breached,
            one.overdue,
            one.at_risk,
            _percent(one.share),
            _percent(one.objective),
        )
        for one in found.promises
    )
    _print("SLAs", ("sla", "partner", "met", "breached", "overdue", "at risk", "kept", "objective"), promises)
    failures = ((one.to_status, one.error_code, one.count, one.orders) for one in found.failures)
    _print("Failed transitions", ("to", "error", "times", "orders"), failures)


def _print(title: str, columns: Iterable[str], lines: Iterable[Iterable[object]]) -> None:
    table = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right")
    for line in lines:
        table.add_row(*("" if value is None else str(value) for value in line))
    if table.row_count:
        Console(highlight=False).print(table)


def _times(times: Times) -> tuple[object, ...]:
    average = "" if times.average is None else f"{'over ' if times.average_is_at_least else ''}{_span(times.average)}"
    return (
        times.finished,
        times.waiting,
        average,
        *map(_quantile, (times.p50, times.p95), [times.finished + times.waiting] * 2),
    )


def _quantile(seconds: float | None, known: int) -> str:
    return ("not yet" if known else "") if seconds is None else _span(seconds)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.3g} s"
