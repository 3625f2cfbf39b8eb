"""``otel-orders ledger backup`` and ``restore``: a SQLite store into a file, while it is used, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otel_orders.cli.ledger_store import StoreUrl  # noqa: TC001 - typer reads it
from otel_orders.errors import ConfigurationError
from otel_orders.ledger.service import SQLITE
from otel_orders.ledger.store.backup import copy

File = Annotated[Path, typer.Argument(metavar="FILE", help="The file of the backup.")]


def backup(store: StoreUrl, file: File) -> None:
    """Copy a store into a file, while its ledger runs.

    The copy is one moment of the store, complete in one file, checked, and on disk when this ends. It holds up nobody.
    For a store in PostgreSQL use pg_dump.
    """
    size = copy(_path(store), file)
    typer.echo(f"{file}: {size} bytes")


def restore(file: File, store: StoreUrl) -> None:
    """Make a store of a backup. No ledger may run on it, and what was there must be moved away first.

    Events since the backup are missing until their senders send them again; what comes twice counts once.
    """
    size = copy(file, _path(store))
    typer.echo(f"{store}: {size} bytes")


def _path(store: str) -> Path:
    path = store.removeprefix(SQLITE)
    if store.startswith("postgres"):
        raise ConfigurationError("PostgreSQL brings its own: pg_dump and pg_restore, or a base backup with its log")
    if not store.startswith(SQLITE) or path in {"", ":memory:"}:
        raise ConfigurationError(f"--store {store!r}: expected {SQLITE}PATH, the path of a file")
    return Path(path)
