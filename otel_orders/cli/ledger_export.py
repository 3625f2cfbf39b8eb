"""``otel-orders ledger export``: events or visits into a file, row by row."""

from __future__ import annotations

import csv
import sys
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import msgspec
import typer

from otel_orders.cli.ledger_store import LifecycleFile, StoreUrl, existing, plan_of
from otel_orders.errors import ConfigurationError, MissingExtraError
from otel_orders.ledger import export as exported
from otel_orders.ledger.report import safe
from otel_orders.ledger.service import ENV

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from otel_orders.ledger.export import Row

SOME_MISSING = 1
ROWS_AT_ONCE = 5_000
"""Rows of one group in a Parquet file: what is held in memory."""


def export(
    store: StoreUrl,
    out: Annotated[str, typer.Argument(metavar="OUT", help="The file to write; - is the standard output.")],
    form: Annotated[Literal["csv", "jsonl", "parquet"], typer.Option("--format", help="How.")] = "csv",
    what: Annotated[Literal["events", "visits"], typer.Option(help="What: events, or stays in statuses.")] = "events",
    lifecycle: LifecycleFile = "lifecycle.yaml",
) -> None:
    """Write all events, or all stays in statuses, into a file: row by row, while the ledger runs.

    The file has its name once it is complete. Ends with status 1 where orders are not in it, since their rows cannot be
    read; it names them. Events as jsonl can be sent to a ledger again. CSV marks text that a spreadsheet would
    calculate with a quote; jsonl and Parquet are exact. Parquet needs the extra 'parquet'.
    """
    rotten: list[str] = []
    with existing(store) as opened:
        plan = plan_of(opened, lifecycle)
        if what == "visits":
            columns, rows = exported.VISITS, exported.stays(opened, plan, rotten)
        else:
            columns, rows = exported.EVENTS, exported.events(opened, opened.get(ENV) or "dev", rotten)
            rows = rows if form == "jsonl" else map(exported.flat, rows)
        written = count()
        rows = (row for row, _ in zip(rows, written, strict=False))
        if form == "parquet":
            _parquet(out, columns, rows)
        else:
            with _opened(out) as file:
                _csv(file, columns, rows) if form == "csv" else _jsonl(file, rows)
    typer.echo(f"{out}: {next(written)} {what}", err=True)
    if rotten:
        typer.echo(
            f"{len(rotten)} orders are not in it, since their rows cannot be read: {', '.join(rotten)}", err=True
        )
        raise typer.Exit(SOME_MISSING)


@contextmanager
def _whole(out: str) -> Iterator[Path]:
    """Give the path to write inside the block, whose normal end makes it the file *out*: no part looks whole.

    What is no file, such as a pipe, is written itself.
    """
    target = Path(out).resolve()
    is_other = target.exists() and not target.is_file()
    unfinished = target if is_other else target.with_name(f"{target.name}.part")
    try:
        yield unfinished
        if not is_other:
            unfinished.replace(target)
    except OSError as error:
        raise ConfigurationError(f"{out}: {error.strerror or error}") from None
    finally:
        if not is_other:
            unfinished.unlink(missing_ok=True)


@contextmanager
def _opened(out: str) -> Iterator[TextIO]:
    if out == "-":
        yield sys.stdout
        return
    with _whole(out) as path, path.open("w", encoding="utf-8", newline="") as file:
        yield file


def _csv(file: TextIO, columns: Iterable[str], rows: Iterable[Row]) -> None:
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows([safe(row[name]) for name in columns] for row in rows)


def _jsonl(file: TextIO, rows: Iterable[Row]) -> None:
    file.writelines(msgspec.json.encode(row).decode() + "\n" for row in rows)


def _parquet(out: str, columns: Mapping[str, type], rows: Iterable[Row]) -> None:
    try:
        import pyarrow as pa  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415
    except ModuleNotFoundError:
        raise MissingExtraError("otel-orders ledger export --format parquet", "parquet") from None
    if out == "-":
        raise ConfigurationError("a Parquet file is no stream: expected a path instead of -")
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    waiting = iter(rows)
    with _whole(out) as path, parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(waiting, ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
