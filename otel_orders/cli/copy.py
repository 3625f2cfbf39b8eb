"""``otel-orders ledger copy``: move a ledger's store, such as a grown SQLite file into PostgreSQL."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from otel_orders.cli.ledger_store import existing
from otel_orders.ledger.copying import copy
from otel_orders.ledger.service import open_store
from otel_orders.ledger.store import Access

SAID_EVERY = 100_000
"""Orders between two lines that say how far it is."""


def copy_command(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="sqlite:///PATH")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="postgresql://...; must be empty")],
) -> None:
    """Copy all that a store holds into an empty one, and compare both.

    Stop the ledger of the source first, and start it with the target afterwards: what it took after the copy would not
    be there. While the copy runs nobody can write the source. It is all or nothing: when it was interrupted, run it
    again.
    """
    with existing(source, Access.RUN) as there, closing(open_store(target)) as here:
        copied = copy(there, here, _say)
    typer.echo(f"otel-orders: copied {copied:,} orders with all totals, and compared both: they are the same", err=True)


def _say(copied: int) -> None:
    if copied % SAID_EVERY == 0:
        typer.echo(f"otel-orders: {copied:,} orders ...", err=True)
