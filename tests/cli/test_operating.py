"""What operators do from the command line, on a running ledger and on a store."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.integration.processes import COMMAND, LIFECYCLE, running
from tests.ledger import senders
from tests.ledger.senders import changed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Outcome = tuple[int, str, str]
    Run = Callable[..., Outcome]

TOKEN = "OTEL_ORDERS_LEDGER_OPERATOR_TOKEN"  # noqa: S105 - the variable's name
SECRET = {TOKEN: "of an operator"}


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The URL of a store with the orders A-1 and A-2 of acme, and B-1, left by a ledger that has ended."""
    records = [changed("A-1", partner_id="acme"), changed("A-2", partner_id="acme"), changed("B-1")]
    with running(tmp_path) as ledger, ledger.client() as client:
        client.post("/events", content=senders.lines(records)).raise_for_status()
        ledger.stop(15)
    return f"sqlite:///{tmp_path / 'ledger.db'}"


def test_an_order_is_held_released_and_erased_in_a_store_and_the_store_stays_proved(run: Run, store: str) -> None:
    on = ("--store", store, "--lifecycle", LIFECYCLE)
    code, out, _ = run("hold", "A-1", "--until", "3d", "--why", "on holiday", "--by", "anna", *on)
    assert (code, out.startswith("A-1 is on hold until 20")) == (0, True)
    assert run("release", "A-1", "--by", "anna", *on)[:2] == (0, "A-1 is on hold no more\n")
    assert run("erase", "B-1", "--by", "berta", *on)[:2] == (0, "erased orders: 1\n")
    assert run("erase", "--partner", "acme", *on)[:2] == (0, "erased orders: 2\n")
    assert run("ledger", "check", *on)[:2] == (0, "0 orders, 0 differences\n")
    code, out, _ = run("ledger", "audit", *on)
    assert [line.split(" ", 2)[2].split()[0] for line in out.splitlines()] == [
        "hold",
        "release",
        "erase",
        "erase_partner",
    ]
    assert [line for line in out.splitlines() if "2 orders by" in line and "erase_partner" in line]
    assert "B-1" not in out
    code, out, _ = run("ledger", "audit", "--order", "B-1", "--json", *on)
    assert [(entry["what"], entry["by"]) for entry in map(json.loads, out.splitlines())] == [("erase", "berta")]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["hold", "nobody", "--until", "3d", "--why", "x"], "no event of this order has reached this ledger"),
        (["hold", "A-1", "--until", "soon", "--why", "x"], "until: expected 2026-12-24"),
        (["release", "A-1"], "it is not on hold"),
        (["erase", "nobody"], "no event of this order"),
        (["erase"], "expected either ORDER or --partner ID"),
        (["erase", "A-1", "--partner", "acme"], "expected either ORDER or --partner ID"),
    ],
)
def test_what_cannot_be_done_is_one_line(run: Run, store: str, arguments: list[str], says: str) -> None:
    code, out, err = run(*arguments, "--store", store, "--lifecycle", LIFECYCLE)
    assert (code, out) == (2, "")
    assert err.startswith("otel-orders: ")
    assert says in err
    assert err.count("\n") == 1


def test_a_store_is_only_changed_by_the_lifecycle_that_it_is_kept_by(run: Run, store: str, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(LIFECYCLE.read_text().replace("stuck_after: 24h", "stuck_after: 23h"))
    code, _, err = run("erase", "A-1", "--store", store, "--lifecycle", other)
    assert code == 2
    assert "give the file that the ledger runs with" in err
    missing = run("erase", "A-1", "--store", "sqlite:////no/such/file.db", "--lifecycle", LIFECYCLE)
    assert (missing[0], "there is no such file" in missing[2]) == (2, True)


def test_a_running_ledger_is_asked_with_the_operators_token(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, environ=SECRET) as ledger, ledger.client() as client:
        sent = [changed("A/1", partner_id="acme"), changed("A-2"), changed("..")]
        client.post("/events", content=senders.lines(sent))
        at = ("--ledger", ledger.url)
        assert "set OTEL_ORDERS_LEDGER_OPERATOR_TOKEN" in run("release", "A/1", *at)[2]
        monkeypatch.setenv(TOKEN, "wrong")
        assert run("erase", "A/1", *at)[::2] == (
            2,
            "otel-orders: an operator token is needed to change something\n",
        )
        monkeypatch.setenv(TOKEN, SECRET[TOKEN])
        assert run("hold", "A/1", "--until", "2099-01-01", "--why", "x", *at)[0] == 2
        assert run("hold", "A/1", "--until", "3d", "--why", "on holiday", *at)[0] == 0
        assert client.get("/orders/A%2F1").json()["hold"]["why"] == "on holiday"
        assert run("release", "A/1", *at)[0] == 0
        assert run("hold", "..", "--until", "3d", "--why", "odd", *at)[0] == 0
        assert client.get("/find?order_id=..").json()["hold"]["why"] == "odd"
        assert run("erase", "--partner", "acme", *at)[:2] == (0, "erased orders: 1\n")
        assert run("erase", "A-2", *at)[0] == 0
        code, _, err = run("erase", "A-2", *at)
        assert (code, "no event of this order" in err) == (2, True)
    code, _, err = run("erase", "A-2", *at)
    assert (code, f"no ledger answers at {ledger.url}" in err) == (2, True)


def test_a_check_names_what_differs_ends_with_1_and_repairs(run: Run, store: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as broken:
        broken.execute("UPDATE orders SET due_at = NULL WHERE order_id = 'A-1'")
        broken.execute("UPDATE orders SET state = x'ff' WHERE order_id = 'B-1'")
    on = ("--store", store, "--lifecycle", LIFECYCLE)
    code, out, _ = run("ledger", "check", *on)
    assert code == 1
    assert "A-1: due_at is " in out
    assert "B-1: the row cannot be read" in out
    assert "3 orders, " in out
    code, out, _ = run("ledger", "check", "--repair", *on)
    assert code == 1
    assert out.splitlines()[-2] == "3 orders, 1 differences"
    assert run("erase", "B-1", *on)[0] == 0
    assert run("ledger", "check", *on)[:2] == (0, "2 orders, 0 differences\n")


def test_the_retention_is_an_option_and_a_variable(tmp_path: Path) -> None:
    with running(tmp_path, "--retention", "7d", environ={"OTEL_ORDERS_LEDGER_ERRORS_RETENTION": "2d"}) as ledger:
        with ledger.client() as client:
            old = changed("A-1", occurred_at=time.time_ns() - 8 * 86_400 * senders.SECOND)
            assert client.post("/events", content=senders.lines([old])).json()["rejected"] == {"late": 1}
        ledger.stop(15)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as kept:
        days = [int(part) // (86_400 * senders.SECOND) for part in _retention(kept).split(",")]
    assert days == [7, 2]
    wrong = subprocess.run(
        [*COMMAND, "ledger", "--store", f"sqlite:///{tmp_path}/x.db", "--retention", "long"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert (wrong.returncode, wrong.stderr.startswith("otel-orders: --retention: expected a duration")) == (2, True)


def _retention(kept: sqlite3.Connection) -> str:
    found: str = kept.execute("SELECT value FROM meta WHERE key = 'retention'").fetchone()[0]
    return found
