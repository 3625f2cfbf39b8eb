"""Backups and exports from the command line, also of a ledger that runs."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from pyarrow import parquet

from otel_orders.errors import StoreUnavailableError
from otel_orders.ledger import export
from otel_orders.ledger.check import check
from otel_orders.ledger.service import Ledger, open_store
from otel_orders.ledger.store.sqlite import SqliteStore
from tests.integration.processes import COMMAND, LIFECYCLE, running
from tests.ledger import senders
from tests.ledger.senders import ENV, SECOND, changed, walk
from tests.ledger.stores import spoil
from tests.ledger.strategies import LIFECYCLE as READ
from tests.ledger.strategies import PLAN
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]

WAY = ("INITIATED", "FILE_UPLOADED", "SUBMITTED")


def filled(path: Path, *records: dict[str, Any]) -> str:
    url = f"sqlite:///{path}"
    with closing(Ledger(open_store(url), READ, ENV)) as ledger:
        reading = ledger.new_reading()
        for record in records:
            reading.take(record)
        ledger.writer.submit(reading).result(20)
    return url


@pytest.fixture
def start() -> int:
    return time.time_ns() // SECOND * SECOND - 60 * SECOND


@pytest.fixture
def store(tmp_path: Path, start: int) -> str:
    failed = changed(
        "A-1", "PRICE_CALCULATED", event_type="order.transition_failed", error_code="=1+1", note={"a": "b"}
    )
    return filled(tmp_path / "ledger.db", *walk("A-1", *WAY, start=start, partner_id="acme"), failed, changed("A-2"))


def test_a_running_ledger_is_backed_up_and_restored_with_all_that_was_acknowledged(run: Run, tmp_path: Path) -> None:
    acknowledged: list[str] = []
    with running(tmp_path) as ledger, ledger.client() as client:
        stopped = threading.Event()

        def send() -> None:
            number = 0
            while not stopped.is_set():
                number += 1
                client.post("/events", content=senders.lines([changed(f"A-{number}")])).raise_for_status()
                acknowledged.append(f"A-{number}")

        sending = threading.Thread(target=send)
        sending.start()
        try:
            wait_for(lambda: len(acknowledged) > 20)
            before = list(acknowledged)
            url = f"sqlite:///{tmp_path / 'ledger.db'}"
            code, out, _ = run("ledger", "backup", "--store", url, tmp_path / "backup.db")
            assert (code, out.startswith(f"{tmp_path}/backup.db: ")) == (0, True)
        finally:
            stopped.set()
            sending.join()
        ledger.stop(signal.SIGKILL)
    (tmp_path / "restored").mkdir()
    restored = f"sqlite:///{tmp_path}/restored/ledger.db"
    assert run("ledger", "restore", tmp_path / "backup.db", "--store", restored)[0] == 0
    with closing(SqliteStore(f"{tmp_path}/restored/ledger.db")) as copied:
        assert set(before) <= {order_id for some in copied.all_ids(100) for order_id in some}
        assert check(copied, PLAN).right
    with running(tmp_path / "restored") as ledger, ledger.client() as client:
        assert client.get("/orders/A-1").is_success


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["backup", "--store", "postgresql://here/db", "x"], "pg_dump"),
        (["backup", "--store", "ledger.db", "x"], "expected sqlite:///PATH"),
        (["backup", "--store", "sqlite:////no/such.db", "x"], "there is no such file"),
        (["restore", "/no/such.db", "--store", "sqlite:///x.db"], "there is no such file"),
        (["export", "--store", "sqlite:////no/such.db", "x"], "there is no such file"),
    ],
)
def test_what_cannot_be_copied_is_one_line(run: Run, tmp_path: Path, arguments: list[str], says: str) -> None:
    code, out, err = run("ledger", *(str(tmp_path / "x") if one == "x" else one for one in arguments))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_a_store_that_is_there_is_not_restored_over(run: Run, store: str, tmp_path: Path) -> None:
    assert run("ledger", "backup", "--store", store, tmp_path / "b.db")[0] == 0
    code, _, err = run("ledger", "restore", tmp_path / "b.db", "--store", store)
    assert (code, "is there already: move it away first" in err) == (2, True)


def test_events_are_csv_with_formulas_made_harmless(run: Run, store: str, tmp_path: Path, start: int) -> None:
    out = tmp_path / "events.csv"
    code, _, err = run("ledger", "export", "--store", store, "--lifecycle", LIFECYCLE, out)
    assert (code, err) == (0, f"{out}: 5 events\n")
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["order_id"], row["from_status"], row["to_status"]) for row in rows] == [
        ("A-1", "", "INITIATED"),
        ("A-1", "INITIATED", "FILE_UPLOADED"),
        ("A-1", "FILE_UPLOADED", "SUBMITTED"),
        ("A-1", "", "PRICE_CALCULATED"),
        ("A-2", "", "INITIATED"),
    ]
    assert rows[0]["occurred_at"] == str(start)
    assert rows[0]["time"].endswith("+00:00")
    assert (rows[3]["error_code"], rows[3]["attributes"]) == ("'=1+1", "{\"note\":\"{'a': 'b'}\"}")


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("what", ["events", "visits"])
def test_an_export_names_the_orders_that_are_not_in_it_and_says_so_by_its_status(
    run: Run, store: str, tmp_path: Path, form: str, what: str
) -> None:
    with closing(open_store(store)) as opened:
        spoil(opened, "A-2", b"\xff")
    out = tmp_path / "out"
    options = ("--store", store, "--lifecycle", LIFECYCLE, "--format", form, "--what", what)
    code, _, err = run("ledger", "export", *options, out)
    assert code == 1
    assert "1 orders are not in it, since their rows cannot be read: A-2" in err
    assert out.exists()


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_an_export_that_fails_leaves_what_was_there_and_no_part_of_a_file(
    run: Run, store: str, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = export.events

    def fails(*asked: Any) -> Iterator[export.Row]:
        yield from events(*asked)
        raise StoreUnavailableError("away")

    monkeypatch.setattr(export, "events", fails)
    out = tmp_path / "out"
    out.write_text("of yesterday")
    assert run("ledger", "export", "--store", store, "--lifecycle", LIFECYCLE, "--format", form, out)[0] == 2
    assert out.read_text() == "of yesterday"
    assert not out.with_name("out.part").exists()


def test_events_as_json_lines_fill_another_ledger_with_the_same_orders(run: Run, store: str, tmp_path: Path) -> None:
    lines = run("ledger", "export", "--store", store, "--lifecycle", LIFECYCLE, "--format", "jsonl", "-")[1]
    records = [json.loads(line) for line in lines.splitlines()]
    other = filled(tmp_path / "other.db", *records)
    told = [
        run("ledger", "export", "--store", url, "--lifecycle", LIFECYCLE, "--format", "jsonl", "-")[1]
        for url in (store, other)
    ]
    assert told[0] == told[1]
    assert told[0].count("\n") == 5


def test_visits_are_stays_with_their_seconds(run: Run, store: str, start: int) -> None:
    out = run("ledger", "export", "--store", store, "--lifecycle", LIFECYCLE, "--what", "visits", "-")[1]
    rows = list(csv.DictReader(out.splitlines()))
    assert [(row["order_id"], row["status"], row["seconds"]) for row in rows] == [
        ("A-1", "INITIATED", "1.0"),
        ("A-1", "FILE_UPLOADED", "1.0"),
        ("A-1", "SUBMITTED", ""),
        ("A-2", "INITIATED", ""),
    ]
    assert (rows[0]["entered_at"], rows[0]["left_at"], rows[0]["partner_id"]) == (
        str(start),
        str(start + SECOND),
        "acme",
    )


@pytest.mark.parametrize(("what", "count"), [("events", 5), ("visits", 4)])
def test_parquet_has_the_same_rows_with_types(run: Run, store: str, tmp_path: Path, what: str, count: int) -> None:
    out = tmp_path / "out.parquet"
    options = ("--store", store, "--lifecycle", LIFECYCLE, "--what", what, "--format", "parquet")
    assert run("ledger", "export", *options, out)[0] == 0
    table = parquet.read_table(out)
    assert table.num_rows == count
    assert str(table.schema.field("occurred_at" if what == "events" else "entered_at").type) == "int64"
    if what == "events":
        assert "=1+1" in table.column("error_code").to_pylist()
    assert "expected a path instead of -" in run("ledger", "export", *options, "-")[2]


def test_without_pyarrow_the_extra_is_named_and_csv_goes_on(store: str, tmp_path: Path) -> None:
    program = "import sys; sys.modules['pyarrow'] = None; from otel_orders.cli import main; main()"
    command = [sys.executable, "-c", program, "ledger", "export", "--store", store, "--lifecycle", str(LIFECYCLE)]
    done = subprocess.run(
        [*command, "--format", "parquet", "x"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "pip install 'otel-orders[parquet]'" in done.stderr
    assert subprocess.run([*command, "-"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_an_export_takes_no_more_memory_for_more_orders(run: Run, tmp_path: Path, form: str) -> None:
    peaks = []
    for count in (10_000, 30_000):
        url = filled(tmp_path / f"{count}.db", *(changed(f"A-{place}") for place in range(count)))
        tracemalloc.start()
        options = ("--store", url, "--lifecycle", LIFECYCLE, "--format", form, tmp_path / "out")
        assert run("ledger", "export", *options)[0] == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.6 * peaks[0]  # of three times as many


def test_the_output_may_be_closed_early(store: str) -> None:
    command = [*COMMAND, "ledger", "export", "--store", store, "--lifecycle", str(LIFECYCLE), "-"]
    done = subprocess.run(f"{' '.join(command)} | head -1", shell=True, capture_output=True, text=True, check=False)  # noqa: S602
    assert done.stdout.startswith("order_id,")
    assert "Traceback" not in done.stderr
