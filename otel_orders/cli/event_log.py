"""``otel-orders ledger import``: what happened before the ledger came."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from otel_orders.cli import sources
from otel_orders.errors import ConfigurationError
from otel_orders.ledger import event_log
from otel_orders.ledger.apply import LATE
from otel_orders.ledger.beside import beside
from otel_orders.ledger.event_log import XES_COLUMNS, Columns, Imported, Mapping, import_log
from otel_orders.lifecycle import load_lifecycle

SOME_REFUSED = 1
OF_RESULT = {LATE: ": from a time of which orders were removed for their age; they may have been counted"}
SAY_EVERY = 1.0
"""Seconds between two lines of progress."""

LogFile = Annotated[Path, typer.Argument(metavar="FILE", help="CSV or, by its name, XES; also .gz.")]


def import_command(  # noqa: PLR0917 - typer calls it by name
    log: LogFile,
    store: sources.Store,
    lifecycle: sources.LifecycleFile = "lifecycle.yaml",
    env: sources.Env = "dev",
    case: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The order. XES: an attribute of the trace.")
    ] = None,
    activity: Annotated[str | None, typer.Option(metavar="COLUMN", help="The status it entered.")] = None,
    timestamp: Annotated[str | None, typer.Option(metavar="COLUMN", help="When.")] = None,
    resource: Annotated[str | None, typer.Option(metavar="COLUMN", help="The service; kept as it is.")] = None,
    partner: Annotated[str | None, typer.Option(metavar="COLUMN", help="The partner.")] = None,
    event_id: Annotated[str | None, typer.Option(metavar="COLUMN", help="What tells events apart.")] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Kept as well; may be repeated.")
    ] = None,
    service: Annotated[str, typer.Option(help="The service, where no column says it.")] = "import",
    zone: sources.Zone = None,
    time_format: sources.TimeFormat = None,
    delimiter: sources.Delimiter = None,
    map_file: sources.MapFile = None,
) -> None:
    """Import an event log: however old, each event once, and going on where an interrupted import stopped.

    Of orders that were removed since, or may have been, nothing counts again: that is late. Orders that were never
    closed then are stuck now. Ends with status 1 where events were refused.
    """
    read = load_lifecycle(lifecycle)
    main = _main_columns(log, case, activity, timestamp)
    columns = Columns(*main, resource, partner, event_id, tuple(attribute or ()), service)
    mapping = Mapping(columns, sources.moments(zone, time_format), sources.statuses(map_file))
    progress = Progress(log)
    with beside(store, read, env) as ledger:
        imported = import_log(log, mapping, ledger, delimiter=delimiter, watch=progress.watch, on_batch=progress.show)
    _say(imported, time.monotonic() - progress.began)
    if imported.reasons:
        raise typer.Exit(SOME_REFUSED)


def _main_columns(log: Path, *given: str | None) -> tuple[str, str, str]:
    case, activity, timestamp = given
    if ".xes" in log.suffixes:
        usual = XES_COLUMNS
        return case or usual[0], activity or usual[1], timestamp or usual[2]
    if case is None or activity is None or timestamp is None:
        raise ConfigurationError("a CSV needs --case, --activity and --timestamp: the columns that say them")
    return case, activity, timestamp


class Progress:
    """Says on a terminal how far the file was read."""

    def __init__(self, path: Path) -> None:
        self.began = time.monotonic()
        self._size = path.stat().st_size if path.exists() else 0
        self._file: BinaryIO | None = None
        self._said = 0.0

    def watch(self, file: BinaryIO) -> None:
        """Take the file whose place says how far it is."""
        self._file = file

    def show(self, imported: Imported) -> None:
        """Say it, at most once a second."""
        now = time.monotonic()
        if self._file is None or not sys.stderr.isatty() or now - self._said < SAY_EVERY:
            return
        share = self._file.tell() / max(1, self._size)
        rate = (imported.read - imported.before) / max(0.001, now - self.began)
        typer.echo(f"\r{share:4.0%}  {imported.read:,} events, {rate:,.0f}/s ", nl=False, err=True)
        self._said = now


def _say(imported: Imported, seconds: float) -> None:
    if imported.done_before:
        typer.echo(f"this log was imported before, all {imported.read:,} events of it; nothing was done")
        return
    came = imported.read - imported.before
    if imported.before:
        typer.echo(f"an earlier import had stopped after {imported.before:,} events; this one went on there")
    typer.echo(f"{came:,} events read in {seconds:.1f} s ({came / max(0.001, seconds):,.0f}/s)")
    for result, count in sorted(imported.results.items()):
        typer.echo(f"  {count:,} {result}{OF_RESULT.get(result, '')}")
    if imported.skipped:
        typer.echo(f"  {imported.skipped:,} left out, as the mapping says")
    for reason, count in sorted(imported.reasons.items()):
        typer.echo(f"  {count:,} refused: {sources.reason_and_remedy(reason)}")
    for line, reason in imported.bad:
        typer.echo(f"  line {line}: {reason}")
    if sum(imported.reasons.values()) > event_log.NAMED:
        typer.echo("  ...")
