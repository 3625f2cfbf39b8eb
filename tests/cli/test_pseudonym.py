"""``otel-orders resolve``, as support runs it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from otel_orders.cli.pseudonym import resolve
from otel_orders.ledger.model import NEVER
from otel_orders.ledger.service import open_store
from otel_orders.ledger.store import Row
from otel_orders.privacy import pseudonym

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

KEY = "0123456789abcdef"
SOUGHT = pseudonym("A-4711", KEY.encode())


def run(*arguments: str, key: str | None = KEY) -> Result:
    app = typer.Typer()
    app.command()(resolve)
    return CliRunner().invoke(app, arguments, env={"OTEL_ORDERS_PSEUDONYM_KEY": key})


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    file = tmp_path / "orders.txt"
    file.write_text("A-1\nA-4711\nA-2\n")
    return file


def test_the_order_is_found_in_a_file(orders: Path) -> None:
    ran = run(SOUGHT, "--orders", str(orders))
    assert (ran.exit_code, ran.stdout) == (0, "A-4711\n")


@pytest.mark.parametrize("sought", [pseudonym("A-4711", b"another key, 16+"), pseudonym("B-1", KEY.encode())])
def test_an_order_that_is_not_known_or_another_key_ends_with_1(orders: Path, sought: str) -> None:
    ran = run(sought, "--orders", str(orders))
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert "no known order" in ran.stderr


@pytest.mark.parametrize("made_with", ["the key in use now", "the one before it", "the very first one"])
def test_a_pseudonym_of_a_former_key_still_resolves(orders: Path, made_with: str) -> None:
    keys = "the key in use now, the one before it,the very first one"
    ran = run(pseudonym("A-4711", made_with.encode()), "--orders", str(orders), key=keys)
    assert (ran.exit_code, ran.stdout) == (0, "A-4711\n")


@pytest.mark.parametrize(
    ("arguments", "key", "said"),
    [
        (("4711", "--orders", "x"), KEY, "is no pseudonym: expected p- and 20 hex digits"),
        ((SOUGHT, "--orders", "x"), None, "set OTEL_ORDERS_PSEUDONYM_KEY"),
        ((SOUGHT, "--orders", "x"), "short", "at least 16 bytes, got 5"),
        ((SOUGHT, "--orders", "x"), f"{KEY},short", "at least 16 bytes, got 5"),
        ((SOUGHT,), KEY, "either --ledger-store URL or --orders FILE"),
        ((SOUGHT, "--orders", "x", "--ledger-store", "y"), KEY, "either --ledger-store URL or --orders FILE"),
        ((SOUGHT, "--orders", "/nowhere/orders.txt"), KEY, "No such file"),
        ((SOUGHT, "--ledger-store", "sqlite:////nowhere/ledger.db"), KEY, "there is no such file"),
        ((SOUGHT, "--ledger-store", "mysql://x"), KEY, "expected sqlite:///PATH"),
    ],
)
def test_a_mistake_is_one_error_that_says_what_to_do(arguments: tuple[str, ...], key: str | None, said: str) -> None:
    error = run(*arguments, key=key).exception
    assert said in str(error)
    assert KEY not in str(error)


def test_the_order_is_found_in_the_ledgers_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with closing(open_store(url)) as store, store.transaction() as tx:
        tx.create([Row(order_id, None, None, None, NEVER, b"") for order_id in ("A-1", "A-4711")])
    ran = run(SOUGHT, "--ledger-store", url)
    assert (ran.exit_code, ran.stdout) == (0, "A-4711\n")
