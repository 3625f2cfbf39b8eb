"""``otel-orders report`` prints what the store says."""

from __future__ import annotations

import csv
import json
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from otel_orders.ledger.service import Ledger, open_store
from tests.integration.processes import LIFECYCLE
from tests.ledger.senders import ENV, changed, walk
from tests.ledger.strategies import DAY, HOUR
from tests.ledger.strategies import LIFECYCLE as READ

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(tmp_path: Path) -> tuple[str, str, str, str]:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with closing(Ledger(open_store(url), READ, ENV)) as ledger:
        reading = ledger.new_reading()
        start = time.time_ns() - 2 * DAY
        way = walk("A-1", "INITIATED", "FILE_UPLOADED", "SUBMITTED", start=start, pause=HOUR, partner_id="acme")
        for record in (*way, changed("A-2")):
            reading.take(record)
        ledger.writer.submit(reading).result(20)
    return ("--store", url, "--lifecycle", str(LIFECYCLE))


def test_it_is_tables_for_people(run: Run, store: tuple[str, ...]) -> None:
    code, out, err = run("report", *store)
    assert (code, err) == (0, "")
    assert out.startswith("2 orders, 2 wait, 1 are stuck (50.0% of them), 0 on hold\n")
    for said in (
        "How far they come",
        "Time in status",
        "SLAs",
        "initiated_to_shipped",
        "acme",
        "over 1.9 d",
        "not yet",
    ):
        assert said in out


def test_it_is_json_and_csv_for_programs(run: Run, store: tuple[str, ...]) -> None:
    told = json.loads(run("report", "--json", *store)[1])
    lines = list(csv.reader(run("report", "--csv", *store)[1].splitlines()))
    assert (told["orders"], told["stuck"]) == (2, 1)
    assert ["orders", "", "", "orders", "2"] in lines


def test_orders_are_chosen_by_options(run: Run, store: tuple[str, ...]) -> None:
    assert json.loads(run("report", "--json", "--partner", "acme", *store)[1])["orders"] == 1
    assert json.loads(run("report", "--json", "--since", "1d", *store)[1])["orders"] == 1
    assert json.loads(run("report", "--json", "--until", "1d", *store)[1])["orders"] == 1
    found = json.loads(run("report", "--json", "--status", "SUBMITTED", *store)[1])
    assert [stay["status"] for stay in found["stays"]] == ["SUBMITTED"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--since", "soon"], "--since: expected 2026-12-24"), (["--status", "NONE"], "--status NONE: the lifecycle has")],
)
def test_what_is_wrong_is_one_line(run: Run, store: tuple[str, ...], arguments: list[str], says: str) -> None:
    code, out, err = run("report", *arguments, *store)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err
