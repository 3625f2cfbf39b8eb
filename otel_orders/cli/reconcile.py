"""``otel-orders ledger reconcile``: hold a snapshot of the orders against the ledger."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from otel_orders.cli import sources
from otel_orders.errors import ConfigurationError, EventError
from otel_orders.ledger import tables
from otel_orders.ledger.beside import beside
from otel_orders.ledger.reconcile import Columns, Report, Times, reconcile
from otel_orders.ledger.service import SQLITE
from otel_orders.ledger.store import Access
from otel_orders.lifecycle import load_lifecycle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_orders.ledger.tables import Row

DIFFERS = 1
MEANINGS = {
    "agree": "have the status that telemetry told",
    "ahead": "have gone further since the snapshot was taken",
    "lost": "have another status there, or one that only a snapshot told: telemetry was lost",
    "silent": "were never seen by telemetry",
    "gone": "are open here, and not in the snapshot: their end was lost",
}


def reconcile_command(  # noqa: PLR0917 - typer calls it by name
    snapshot: Annotated[
        str, typer.Argument(help="A CSV file, also .gz, or a database: sqlite:///PATH, postgresql://...")
    ],
    store: sources.Store,
    lifecycle: sources.LifecycleFile = "lifecycle.yaml",
    env: sources.Env = "dev",
    query: Annotated[str | None, typer.Option(metavar="SQL", help="What to ask the database.")] = None,
    id_column: Annotated[str, typer.Option("--id", metavar="COLUMN")] = "id",
    status_column: Annotated[str, typer.Option("--status", metavar="COLUMN")] = "status",
    entered_at_column: Annotated[str, typer.Option("--entered-at", metavar="COLUMN")] = "entered_at",
    zone: sources.Zone = None,
    time_format: sources.TimeFormat = None,
    delimiter: sources.Delimiter = None,
    map_file: sources.MapFile = None,
    taken_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it was taken. [default: the file's own time; now]")
    ] = None,
    min_coverage: Annotated[float, typer.Option(min=0, max=100, help="Percent below which the status is 1.")] = 100,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only compare; write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare a snapshot of the orders (id, status, entered_at) with the ledger, and tell it what differs.

    Ends with status 0 where the coverage is reached and every row was read, in the ledger too, 1 where not, and 2 where
    nothing could be compared.
    """
    read = load_lifecycle(lifecycle)
    _check_store(store)
    moments = sources.moments(zone, time_format)
    columns = Columns(id_column, status_column, entered_at_column, moments, sources.statuses(map_file))
    rows = _rows(snapshot, query, columns, delimiter)
    taken = _taken_at(snapshot, taken_at, columns)
    with beside(store, read, env, Access.READ if dry_run else Access.RUN) as ledger:
        report = reconcile(rows, columns, ledger, Times(taken, time.time_ns()), dry_run=dry_run)
    (_print_json if as_json else _print_table)(report, dry_run=dry_run)
    coverage = report.coverage
    if report.reasons or report.unreadable or coverage is None or coverage < min_coverage:
        raise typer.Exit(DIFFERS)


def _check_store(url: str) -> None:
    path = url.removeprefix(SQLITE)
    if url.startswith(SQLITE) and path and not Path(path).exists():  # opening it would make one in which all are silent
        raise ConfigurationError(f"--store {url}: there is no such file")


def _rows(snapshot: str, query: str | None, columns: Columns, delimiter: str | None) -> Iterator[Row]:
    if "://" in snapshot:
        if query is None:
            raise ConfigurationError("a database needs --query SQL, which finds id, status and entered_at")
        return tables.query_rows(snapshot, query, columns.needed)
    if query is not None:
        raise ConfigurationError("--query asks a database: expected sqlite:///PATH or postgresql://... before it")
    return _csv_rows(Path(snapshot), columns, delimiter)


def _csv_rows(path: Path, columns: Columns, delimiter: str | None) -> Iterator[Row]:
    with tables.opened(path) as file:
        yield from tables.csv_rows(file, columns.needed, delimiter)


def _taken_at(snapshot: str, given: str | None, columns: Columns) -> int:
    try:
        if given is not None:
            return columns.moments.read(given)
        return time.time_ns() if "://" in snapshot else Path(snapshot).stat().st_mtime_ns
    except EventError as error:
        raise ConfigurationError(f"--taken-at {given!r}: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{snapshot}: {error.strerror}") from None


def _print_json(report: Report, *, dry_run: bool) -> None:
    told: dict[str, Any] = {
        "coverage_percent": report.coverage,
        "orders": {verdict: report.counts[verdict] for verdict in MEANINGS},  # type: ignore[index]
        "removed": report.removed,
        "unreadable": report.unreadable,
        "stuck": report.stuck,
        "unknown_statuses": report.unknown,
        "observed_events": report.posted,
        "dry_run": dry_run,
        "bad_rows": report.reasons,
        "first_bad_rows": [{"line": line, "reason": reason} for line, reason in report.bad],
        "first_orders": msgspec.to_builtins(report.examples),
    }
    typer.echo(json.dumps(told, indent=2))


def _print_table(report: Report, *, dry_run: bool) -> None:
    table = Table("orders", "", "such as")
    for verdict, meaning in MEANINGS.items():
        some = ", ".join(_shown(example.order_id) for example in report.examples[verdict][:3])  # type: ignore[index]
        table.add_row(str(report.counts[verdict]), f"[bold]{verdict}[/bold]: {meaning}", some)  # type: ignore[index]
    console = Console()
    console.print(table)
    coverage = report.coverage
    lines = ["there was no order to compare" if coverage is None else f"coverage: {coverage:.2f} %"]
    if report.removed:
        lines.append(
            f"left out, since they ended longer ago than telemetry is kept, or may have been removed: {report.removed}"
        )
    lines += [f"its row in the ledger cannot be read: {_shown(order_id)}" for order_id in report.unreadable]
    lines += [f"stuck there in {status}: {count}" for status, count in sorted(report.stuck.items())]
    lines += [f"no status of the lifecycle: {_shown(name)}: {count}" for name, count in sorted(report.unknown.items())]
    lines += [
        f"bad rows: {count} {sources.reason_and_remedy(reason)}" for reason, count in sorted(report.reasons.items())
    ]
    lines += [f"  line {line}: {reason}" for line, reason in report.bad]
    lines.append(f"{report.posted} events {'would be' if dry_run else 'were'} told to the ledger")
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _shown(text: str) -> str:
    return "".join(letter if letter.isprintable() else "�" for letter in text).replace("[", "\\[")
