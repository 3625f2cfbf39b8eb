"""Rows of CSV files and queries: a bad one costs only itself, and each says where it stands."""

from __future__ import annotations

import gzip
import io
import sqlite3
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from otel_orders.errors import ConfigurationError, MissingExtraError
from otel_orders.ledger import tables

if TYPE_CHECKING:
    from pathlib import Path


def rows(text: str, *needed: str, delimiter: str | None = None) -> list[tuple[int, Any]]:
    return [tuple(row) for row in tables.csv_rows(io.BytesIO(text.encode()), needed, delimiter)]  # type: ignore[misc]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_the_first_line_names_the_columns_and_shows_what_is_between_them(mark: str) -> None:
    text = f"id{mark}status\nA-1{mark}NEW\n\nA-2{mark}OLD\n"
    assert rows(text, "id") == [(2, {"id": "A-1", "status": "NEW"}), (4, {"id": "A-2", "status": "OLD"})]


def test_quotes_line_ends_and_other_marks_are_read_as_csv_has_them() -> None:
    text = 'id,note\r\nA-1,"a, ""b""\nand c"\r\nA-2,;\r\n'
    assert rows(text) == [(3, {"id": "A-1", "note": 'a, "b"\nand c'}), (4, {"id": "A-2", "note": ";"})]
    assert rows("\ufeffid\nA-1\n", "id") == [(2, {"id": "A-1"})]
    assert rows("a;b,c\n1;2,3\n", delimiter=";") == [(2, {"a": "1", "b,c": "2,3"})]


def test_a_row_with_too_few_or_too_many_cells_or_too_large_ones_is_none() -> None:
    text = f"id,status\nA-1\nA-2,NEW,more\nA-3,{'x' * 200_000}\nA-4,NEW\n"
    assert rows(text) == [(2, None), (3, None), (4, None), (5, {"id": "A-4", "status": "NEW"})]


def test_a_line_of_any_length_costs_its_row_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_LINE", 10)
    found = rows(f"a,b\n1,2\n3,{'x' * 95}\n5,6\n7,{'x' * 95}", "a")
    assert found == [(2, {"a": "1", "b": "2"}), (3, None), (4, {"a": "5", "b": "6"}), (5, None)]
    (_, alone), (_, last) = rows(f"a\n{'x' * 95}\n3", "a")
    assert (alone, last) == ({"a": "\udcff"}, {"a": "3"})  # what no text has: it is refused


def test_a_missing_column_is_a_mistake_that_names_those_that_there_are() -> None:
    with pytest.raises(ConfigurationError, match="no column 'state'; there are id, status"):
        rows("id,status\n", "id", "state")
    with pytest.raises(ConfigurationError, match="there are none"):
        rows("", "id")


def test_a_packed_file_is_unpacked_and_says_how_far_it_is(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv.gz"
    path.write_bytes(gzip.compress(b"id\nA-1\n"))
    watched: list[Any] = []
    with tables.opened(path, watched.append) as file:
        assert file.read() == b"id\nA-1\n"
        assert watched[0].tell() == path.stat().st_size
    with pytest.raises(ConfigurationError, match=r"none\.csv: No such file"):
        tables.opened(tmp_path / "none.csv").__enter__()


def test_a_query_of_sqlite_is_read_and_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.execute("CREATE TABLE orders (id, status)")
        shop.executemany("INSERT INTO orders VALUES (?, ?)", [("A-1", "NEW"), ("A-2", "OLD")])
        shop.commit()
    found = list(tables.query_rows(url, "SELECT id, status AS state FROM orders ORDER BY id", ["id", "state"]))
    assert found == [(1, {"id": "A-1", "state": "NEW"}), (2, {"id": "A-2", "state": "OLD"})]
    (odd,) = tables.query_rows(url, "SELECT CAST(x'41ff' AS TEXT) AS id", ["id"])
    assert odd.values == {"id": "A\udcff"}  # what no text has: this row is refused, and no other
    for query, says in [
        ("DELETE FROM orders", "readonly"),
        ("SELECT none_such", "no such column"),
        ("SELECT id FROM orders", "no column 'state'; there are id"),
    ]:
        with pytest.raises(ConfigurationError, match=says):
            list(tables.query_rows(url, query, ["state"]))
    with pytest.raises(ConfigurationError, match="unable to open"):
        list(tables.query_rows(f"sqlite:///{tmp_path}/none.db", "SELECT 1", []))


def test_a_query_of_postgresql_is_read_and_changes_nothing(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as shop:
        shop.execute("CREATE TABLE orders (id text, status text)")
        shop.execute("INSERT INTO orders VALUES ('A-1', 'NEW'), ('A-2', NULL)")
    found = list(tables.query_rows(postgres_url, "SELECT id, status AS state FROM orders ORDER BY id", ["id", "state"]))
    assert found == [(1, {"id": "A-1", "state": "NEW"}), (2, {"id": "A-2", "state": None})]
    for query, says in [
        ("DELETE FROM orders RETURNING id AS state", "the snapshot's query: "),
        ("SELECT none_such", 'column "none_such" does not exist'),
        ("SELECT id FROM orders", "no column 'state'; there are id"),
    ]:
        with pytest.raises(ConfigurationError, match=says):
            list(tables.query_rows(postgres_url, query, ["state"]))
    with psycopg.connect(postgres_url) as shop:
        assert shop.execute("SELECT count(*) FROM orders").fetchone() == (2,)
    with pytest.raises(ConfigurationError, match="the snapshot's query: "):
        list(tables.query_rows("postgresql://127.0.0.1:1/shop", "SELECT 1", []))


def test_other_databases_are_mistakes_and_postgresql_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match="postgres"):
        list(tables.query_rows("postgresql://localhost/shop", "SELECT 1", []))
    with pytest.raises(ConfigurationError, match="expected sqlite:///PATH or postgresql://"):
        tables.query_rows("mysql://localhost/shop", "SELECT 1", [])
