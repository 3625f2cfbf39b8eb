"""Read rows of a CSV file or of a SQL query, one by one: none of them needs to fit into memory.

Knows no order.  Each row comes with where it stands, for whoever has to look for a bad one.
"""

from __future__ import annotations

import csv
import functools
import gzip
import sqlite3
import zlib
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from otel_orders.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

SQLITE: Final = "sqlite:///"
POSTGRESQL: Final = ("postgresql://", "postgres://")
DELIMITERS: Final = ",;\t|"
AT_ONCE: Final = 1_000
MAX_LINE: Final = 1 << 20
"""Longest line of a CSV that is read, in bytes: a packed file may hold one as long as you please."""


class Row(NamedTuple):
    """One row.  line: where it stands, from 1.  values: by column; None where the row cannot be read."""

    line: int
    values: dict[str, Any] | None


@contextmanager
def opened(path: Path, watch: Callable[[BinaryIO], object] | None = None) -> Iterator[BinaryIO]:
    """Open the file *path* inside the block, unpacked if it ends in .gz.

    watch: gets the file itself, whose tell() says how far we are.  Raises ConfigurationError where it cannot be opened,
    or unpacked to its end.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}") from None
        if watch is not None:
            watch(file)
        try:
            yield stack.enter_context(gzip.open(file)) if path.suffix == ".gz" else file  # type: ignore[misc]
        except EOFError:
            raise ConfigurationError(f"{path}: it ends too early: a .gz that was cut off; copy it again") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise ConfigurationError(f"{path}: no .gz, or a damaged one ({error}); copy it again") from None


def csv_rows(file: BinaryIO, needed: Sequence[str], delimiter: str | None = None) -> Iterator[Row]:
    """Yield the rows of the CSV in *file*, in UTF-8, below its first line, which names the columns.

    delimiter: found in the first line where it is None.  What is no UTF-8 becomes what no text has, so that a row with
    it is refused alone.  Raises ConfigurationError where a *needed* column is missing.
    """
    lines = (line.decode("utf-8", "surrogateescape") for line in _lines(file))
    first = next(lines, "").removeprefix("\ufeff")
    mark = delimiter or max(DELIMITERS, key=first.count)
    columns = next(csv.reader([first], delimiter=mark), [])
    check(columns, needed)
    reader = csv.reader(lines, delimiter=mark)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            cells = []
            yield Row(reader.line_num + 1, None)
        if cells:
            whole = len(cells) == len(columns)
            yield Row(reader.line_num + 1, dict(zip(columns, cells, strict=True)) if whole else None)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of *file*; of one that is too long, what no text has."""
    while line := file.readline(MAX_LINE + 1):
        if len(line) <= MAX_LINE:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE)
        yield b"\xff\n"


def query_rows(url: str, query: str, needed: Sequence[str]) -> Iterator[Row]:
    """Yield what *query* finds in the database at *url*; nothing is changed there.

    Raises ConfigurationError where it cannot be asked, or a *needed* column is missing.
    """
    if url.startswith(SQLITE):
        return _sqlite_rows(url.removeprefix(SQLITE), query, needed)
    if url.startswith(POSTGRESQL):
        return _postgresql_rows(url, query, needed)
    raise ConfigurationError(f"of databases, expected {SQLITE}PATH or {POSTGRESQL[0]}...")  # it may hold a password


def check(columns: Sequence[str], needed: Sequence[str]) -> None:
    """Raise ConfigurationError where a *needed* column is not among *columns*."""
    for column in needed:
        if column not in columns:
            raise ConfigurationError(f"there is no column {column!r}; there are {', '.join(columns) or 'none'}")


def _sqlite_rows(path: str, query: str, needed: Sequence[str]) -> Iterator[Row]:
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as connection:
            connection.text_factory = functools.partial(str, encoding="utf-8", errors="surrogateescape")
            found = connection.execute(query)
            yield from _rows([column[0] for column in found.description or ()], found, needed)
    except sqlite3.Error as error:
        raise ConfigurationError(f"{SQLITE}{path}: {error}") from None


def _postgresql_rows(url: str, query: str, needed: Sequence[str]) -> Iterator[Row]:
    try:
        import psycopg  # noqa: PLC0415
    except ModuleNotFoundError:
        raise MissingExtraError("a snapshot from PostgreSQL", "postgres") from None
    try:
        # A cursor with a name stays in the server, and rows come as they are asked for.
        with (
            psycopg.connect(url, options="-c default_transaction_read_only=on") as connection,
            connection.cursor("otel_orders_snapshot") as found,
        ):
            found.itersize = AT_ONCE
            found.execute(query.encode())
            yield from _rows([column.name for column in found.description or ()], found, needed)
    except psycopg.Error as error:
        raise ConfigurationError(f"the snapshot's query: {' '.join(str(error).split())}") from None


def _rows(columns: list[str], found: Iterable[Sequence[Any]], needed: Sequence[str]) -> Iterator[Row]:
    check(columns, needed)
    for line, cells in enumerate(found, 1):
        yield Row(line, dict(zip(columns, cells, strict=True)))
