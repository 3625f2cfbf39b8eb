"""``otel-orders hold`` and ``otel-orders release``: let one order wait, visibly, and until a date only."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated

import typer

from otel_orders.cli.ledger_store import LOCAL, By, LedgerUrl, LifecycleFile, MaybeStore, name_of, operators
from otel_orders.errors import OperationError
from otel_orders.ledger.dates import FORMS, moment

OrderId = Annotated[str, typer.Argument(metavar="ORDER", help="The order's id.")]


def hold(  # noqa: PLR0917 - typer calls it by name
    order: OrderId,
    until: Annotated[str, typer.Option(metavar="DATE", help=f"When it comes back: {FORMS}.")],
    why: Annotated[str, typer.Option(metavar="TEXT", help="For whoever looks at it meanwhile.")],
    by: By = None,
    ledger: LedgerUrl = LOCAL,
    store: MaybeStore = None,
    lifecycle: LifecycleFile = "lifecycle.yaml",
) -> None:
    """Let an order wait until a date without counting as stuck.

    It is shown as on hold, and counts as stuck again from then on, if it still waits. Promises to customers go on: a
    hold stops no SLA and no breach. Needs OTEL_ORDERS_LEDGER_OPERATOR_TOKEN, or --store.
    """
    ends = _moment(until)
    with operators(store, lifecycle, ledger) as allowed:
        allowed.hold(order, ends, why, name_of(by))
    typer.echo(f"{order} is on hold until {ends}")


def _moment(until: str) -> str:
    """Return *until* with an offset from UTC: the ledger may run in another zone than who asks."""
    try:
        ends = moment(until, time.time_ns(), 1)
        return datetime.fromtimestamp(ends // 1_000_000_000).astimezone().isoformat()
    except ValueError as error:
        raise OperationError(f"until: {error}") from None
    except OverflowError:
        raise OperationError(f"until: {until} is too far away") from None


def release(
    order: OrderId,
    by: By = None,
    ledger: LedgerUrl = LOCAL,
    store: MaybeStore = None,
    lifecycle: LifecycleFile = "lifecycle.yaml",
) -> None:
    """Take an order off its hold. Needs OTEL_ORDERS_LEDGER_OPERATOR_TOKEN, or --store."""
    with operators(store, lifecycle, ledger) as allowed:
        allowed.release(order, name_of(by))
    typer.echo(f"{order} is on hold no more")
