"""``otel-orders erase``: remove what is known of one order, or of a partner's orders, for good."""

from __future__ import annotations

from typing import Annotated

import typer

from otel_orders.cli.ledger_store import LOCAL, By, LedgerUrl, LifecycleFile, MaybeStore, name_of, operators
from otel_orders.errors import ConfigurationError


def erase(  # noqa: PLR0917 - typer calls it by name
    order: Annotated[str | None, typer.Argument(metavar="[ORDER]", help="The order's id.")] = None,
    partner: Annotated[str | None, typer.Option(metavar="ID", help="Instead, all orders of this partner.")] = None,
    by: By = None,
    ledger: LedgerUrl = LOCAL,
    store: MaybeStore = None,
    lifecycle: LifecycleFile = "lifecycle.yaml",
) -> None:
    """Erase an order, or all orders of a partner, from the ledger.

    The orders leave the gauges; counters keep their sums, which say nothing of a person. What still comes of an erased
    order is refused as "erased". Backups, files and other systems are not touched. Needs
    OTEL_ORDERS_LEDGER_OPERATOR_TOKEN, or --store.
    """
    if (order is None) == (partner is None):
        raise ConfigurationError("expected either ORDER or --partner ID: what to erase")
    with operators(store, lifecycle, ledger) as allowed:
        if partner is not None:
            typer.echo(f"erased orders: {allowed.erase_partner(partner, name_of(by))}")
        elif order is not None:
            allowed.erase(order, name_of(by))
            typer.echo("erased orders: 1")
