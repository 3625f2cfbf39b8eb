"""``otel-orders check``: say whether a lifecycle file is right."""

from __future__ import annotations

from typing import Annotated

import typer

from otel_orders.lifecycle import load_lifecycle


def check(path: Annotated[str, typer.Argument(metavar="FILE", help="The lifecycle file.")] = "lifecycle.yaml") -> None:
    """Check a lifecycle file: say its hash, or the line, the field and what was expected there."""
    lifecycle = load_lifecycle(path)
    typer.echo(f"{path}: right; {len(lifecycle.statuses)} statuses, hash {lifecycle.hash}")
