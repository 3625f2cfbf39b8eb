"""``otel-orders ledger audit``: who changed what by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from otel_orders.cli.ledger_store import LifecycleFile, StoreUrl, existing, plan_of
from otel_orders.ledger.operators import Operators

if TYPE_CHECKING:
    from otel_orders.ledger.audit import Entry


def audit(
    store: StoreUrl,
    lifecycle: LifecycleFile = "lifecycle.yaml",
    order: Annotated[str | None, typer.Option(metavar="ORDER", help="Only what names this order.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List the holds, releases and erasures, oldest first.

    Orders stand in it by a keyed hash, so that it may outlive them; --order finds the one that you know.
    """
    with existing(store) as opened:
        entries = Operators(opened, plan_of(opened, lifecycle)).audit(order)
    for entry in entries:
        typer.echo(msgspec.json.encode(entry).decode() if json else _line(entry))


def _line(entry: Entry) -> str:
    until = f", until {_moment(entry.until)}" if entry.until else ""
    which = f"order {entry.order}" if entry.order else f"{entry.orders} orders"
    return f"{_moment(entry.at)}  {entry.what} of {which} by {entry.by}{until}"


def _moment(unix_ns: int) -> str:
    return datetime.fromtimestamp(unix_ns / 1e9, UTC).isoformat(timespec="seconds")
