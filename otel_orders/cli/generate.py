"""``otel-orders generate ...``: write what a lifecycle decides elsewhere, or say whether what is there is stale."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations
from typing import Annotated

import typer

from otel_orders.cli.ledger_store import LifecycleFile  # noqa: TC001
from otel_orders.errors import ConfigurationError
from otel_orders.generate import collector as of_collector
from otel_orders.lifecycle import load_lifecycle


def collector(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder of the Collector's configs.")],
    lifecycle: LifecycleFile = "lifecycle.yaml",
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if it is not what is there.")] = False,
) -> None:
    """Write which traces the Collector keeps: sampling.yaml, for its tail sampling."""
    _put(out / of_collector.FILE, of_collector.sampling(load_lifecycle(lifecycle)), check=check)


def _put(path: Path, text: str, *, check: bool) -> None:
    try:
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            raise ConfigurationError(f"{path} is stale: run the same command without --check")
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    typer.echo(f"{path}: {'up to date' if check else 'written'}")
