"""``otel-orders ledger check``: prove that a store says what its events say."""

from __future__ import annotations

from typing import Annotated

import typer

from otel_orders.cli.ledger_store import LifecycleFile, StoreUrl, existing, plan_of
from otel_orders.ledger.check import Findings, repair
from otel_orders.ledger.check import check as checked
from otel_orders.ledger.store import Access


def check(
    store: StoreUrl,
    lifecycle: LifecycleFile = "lifecycle.yaml",
    mend: Annotated[bool, typer.Option("--repair", help="Fold orders anew, and make gauges right.")] = False,
) -> None:
    """Fold every order anew from its events, and compare orders and totals with what is stored.

    Names each order and each total that differs, and ends with status 1 then. A running ledger is not held up. Counters
    are never changed, since they never go down: --repair notes the rest that no order explains.
    """
    with existing(store, Access.CHANGE if mend else Access.READ) as opened:
        plan = plan_of(opened, lifecycle)
        found = checked(opened, plan)
        _tell(found)
        if mend and not found.right:
            repair(opened, plan, found)
            found = checked(opened, plan)
            typer.echo("after the repair:")
            _tell(found)
    if not found.right:
        raise typer.Exit(1)


def _tell(found: Findings) -> None:
    for where, what in found.differences:
        typer.echo(f"{where}: {what}")
    typer.echo(f"{found.orders} orders, {len(found.differences)} differences")
    if found.unreadable:
        typer.echo("Rows that cannot be read are mended by a backup, or left off with `otel-orders erase`.")
