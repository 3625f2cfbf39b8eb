"""``otel-orders ledger reconcile`` and ``import``: what they print, and what cron sees of them."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from otel_orders.ledger.service import open_store
from tests.integration.processes import COMMAND, LIFECYCLE, running
from tests.ledger import senders
from tests.ledger.senders import SECOND, changed, walk
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600 * SECOND


class Ended:
    def __init__(self, folder: Path, command: str, *arguments: object) -> None:
        store = ("--store", f"sqlite:///{folder / 'ledger.db'}", "--lifecycle", str(LIFECYCLE), "--env", "test")
        done = subprocess.run(
            [*COMMAND, "ledger", command, *map(str, arguments), *store],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"COLUMNS": "200"},
        )
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr
        assert "Traceback" not in self.err


def snapshot(folder: Path, *rows: tuple[str, str, int], name: str = "snapshot.csv") -> Path:
    path = folder / name
    path.write_text("id,status,entered_at\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows))
    return path


def test_a_dry_run_writes_to_no_store_and_makes_none(tmp_path: Path) -> None:
    now, store = time.time_ns(), tmp_path / "ledger.db"
    path = snapshot(tmp_path, ("A-1", "INITIATED", now), ("A-2", "SUBMITTED", now))
    nowhere = Ended(tmp_path, "reconcile", path, "--dry-run")
    assert (nowhere.code, nowhere.out, store.exists()) == (2, "", False)
    with running(tmp_path) as ledger, ledger.client() as client:
        client.post("/events", content=senders.lines([changed("A-1")])).raise_for_status()
        ledger.stop(signal.SIGTERM)
    before = store.read_bytes(), store.stat().st_mtime_ns
    done = Ended(tmp_path, "reconcile", path, "--dry-run")
    assert (done.code, "1 events would be told to the ledger" in done.out) == (1, True), done.err
    assert (store.read_bytes(), store.stat().st_mtime_ns) == before


def test_beside_a_running_ledger_a_snapshot_finds_what_telemetry_did_not(tmp_path: Path) -> None:
    now = time.time_ns()
    with running(tmp_path) as ledger, ledger.client() as client:
        told = walk("A-1", "INITIATED", "FILE_UPLOADED", start=now - HOUR)
        client.post("/events", content=senders.lines([*told, changed("A-2", occurred_at=now - HOUR)]))
        path = snapshot(tmp_path, ("A-1", "FILE_UPLOADED", now - HOUR), ("A-3", "SUBMITTED", now - 100 * 24 * HOUR))
        first = Ended(tmp_path, "reconcile", path, "--json", "--dry-run")
        report = json.loads(first.out)
        assert report["orders"] == {"agree": 1, "ahead": 0, "lost": 0, "silent": 1, "gone": 1}
        assert (first.code, report["coverage_percent"], report["observed_events"]) == (1, 100 / 3, 1)
        assert client.get("/orders/A-3").status_code == 404
        second = Ended(tmp_path, "reconcile", path, "--min-coverage", 33)
        assert second.code == 0, second.err
        for said in (
            r"1 +│ silent: were never seen by telemetry +│ A-3",
            r"1 +│ gone: .*│ A-2",
            r"coverage: 33\.33 %",
            r"stuck there in SUBMITTED: 1",
            r"1 events were told to the ledger",
        ):
            assert re.search(said, second.out), said
        wait_for(lambda: client.get("/orders/A-3").json()["stuck"])
        assert "stuck" in client.get("/orders/A-3").text


def test_a_csv_finds_who_has_waited_for_a_year_though_ended_orders_are_kept_for_a_week(tmp_path: Path) -> None:
    text = "Nr;Stand;seit\nA-1;SUBMITTED;{0:%d.%m.%Y}\nA-2;CLOSED;{0:%d.%m.%Y}\n"
    path = tmp_path / "orders.csv.gz"
    path.write_bytes(gzip.compress(text.format(datetime.now(UTC) - timedelta(365)).encode()))
    how = ("--id", "Nr", "--status", "Stand", "--entered-at", "seit", "--time-format", "%d.%m.%Y", "--zone", "UTC")
    with running(tmp_path, "--retention", "7d", "--errors-retention", "7d") as ledger, ledger.client() as client:
        for told in (1, 0):  # the second time it is known
            ended = Ended(tmp_path, "reconcile", path, *how, "--json")
            report = json.loads(ended.out)
            assert (report["orders"]["silent"], report["removed"], report["observed_events"]) == (1, 1, told)
            wait_for(lambda: client.get("/orders/A-1").json()["stuck"])
        assert client.get("/orders/A-2").status_code == 404
        [longest] = client.get("/statuses/SUBMITTED/orders").json()["orders"]
        assert longest["order_id"] == "A-1"
    old = Ended(tmp_path, "reconcile", path, *how, "--taken-at", "01.01.2020")
    assert (old.code, old.out) == (2, "")
    assert "take a new one, or say --taken-at" in old.err


def new_store(folder: Path) -> None:
    open_store(f"sqlite:///{folder / 'ledger.db'}").close()


def test_a_store_that_there_is_not_is_not_made(tmp_path: Path) -> None:
    ended = Ended(tmp_path, "reconcile", snapshot(tmp_path, ("A-1", "SUBMITTED", time.time_ns())))
    assert (ended.code, ended.out) == (2, "")
    assert "there is no such file" in ended.err
    assert not (tmp_path / "ledger.db").exists()


def test_a_query_is_a_snapshot_too(tmp_path: Path) -> None:
    new_store(tmp_path)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.execute("CREATE TABLE orders (nr, state, since)")
        shop.execute("INSERT INTO orders VALUES (4711, 'SUBMITTED', '2026-11-01 12:00:00')")
        shop.commit()
    columns = ("--id", "nr", "--status", "state", "--entered-at", "since", "--zone", "Europe/Berlin")
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    ended = Ended(tmp_path, "reconcile", url, "--query", "SELECT * FROM orders", *columns, "--json")
    assert json.loads(ended.out)["first_orders"]["silent"][0]["order_id"] == "4711"
    with closing(open_store(f"sqlite:///{tmp_path / 'ledger.db'}")) as store:
        assert [ids for ids in store.all_ids(10)] == [["4711"]]  # noqa: C416


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.csv"], "none.csv: No such file"),
        (["snapshot.csv", "--id", "nr"], "no column 'nr'; there are id, status, entered_at"),
        (["cut.csv.gz"], "cut.csv.gz: it ends too early"),
        (["snapshot.csv", "--zone", "Nowhere"], "--zone 'Nowhere'"),
        (["snapshot.csv", "--taken-at", "soon"], "--taken-at 'soon'"),
        (["snapshot.csv", "--query", "SELECT 1"], "--query asks a database"),
        (["sqlite:///shop.db"], "a database needs --query"),
        (["mysql://shop", "--query", "SELECT 1"], "expected sqlite:///PATH or postgresql://"),
        (["snapshot.csv", "--map", "none.yaml"], "--map none.yaml: No such file"),
        (["snapshot.csv", "--map", "snapshot.csv"], "--map snapshot.csv"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    whole = snapshot(tmp_path, ("A-1", "SUBMITTED", time.time_ns()))
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(whole.read_bytes())[:-4])
    new_store(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    ended = Ended(tmp_path, "reconcile", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err
    assert ended.err.count("\n") == 1


def history(path: Path, orders: int) -> Path:
    lines = ["case,activity,timestamp"]
    lines += [f"A-{place},{step},2025-0{month}-01T10:00:00Z" for place in range(orders) for month, step in STEPS]
    path.write_text("\n".join(lines) + "\n")
    return path


STEPS = ((1, "INITIATED"), (2, "FILE_UPLOADED"), (3, "SUBMITTED"), (4, "CANCELLED"))
COLUMNS = ("--case", "case", "--activity", "activity", "--timestamp", "timestamp")


@pytest.mark.slow
def test_a_killed_import_beside_a_running_ledger_goes_on_and_counts_once(tmp_path: Path) -> None:
    path = history(tmp_path / "log.csv", 6000)
    store = ("--store", f"sqlite:///{tmp_path / 'ledger.db'}", "--lifecycle", str(LIFECYCLE), "--env", "test")
    with running(tmp_path) as ledger, ledger.client() as client:
        first = subprocess.Popen([*COMMAND, "ledger", "import", str(path), *COLUMNS, *store], stdout=subprocess.PIPE)
        wait_for(lambda: accepted(client) > 0)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        assert client.post("/events", content=senders.lines([changed("B-1")])).is_success
        ended = Ended(tmp_path, "import", path, *COLUMNS)
        assert ended.code == 0, ended.err
        assert accepted(client) == 24_001
        again = Ended(tmp_path, "import", path, *COLUMNS)
        assert "imported before, all 24,000 events" in again.out
        assert accepted(client) == 24_001
        page = client.get("/metrics").text
    assert 'orders_reached_total{status="CANCELLED"} 6000.0' in page


def accepted(client: Any) -> float:
    found = re.search(r'events_total\{result="accepted"\} ([0-9.]+)', client.get("/metrics").text)
    return float(found[1]) if found else 0


def test_an_import_says_what_came_and_what_was_refused(tmp_path: Path) -> None:
    path = history(tmp_path / "log.csv", 1)
    with path.open("a") as file:
        file.writelines(f"A-2,note,{place}\n" for place in range(30))
    ended = Ended(tmp_path, "import", path, *COLUMNS)
    assert ended.code == 1
    assert "34 events read in" in ended.out
    assert "  4 accepted\n" in ended.out
    assert "  30 refused: bad_time\n  line 6: bad_time\n" in ended.out
    assert ended.out.endswith("  ...\n")
    path.write_text(
        "case,activity,at\nA-3,INITIATED,2025-11-01 10:00\n".replace("case,activity,at", path.read_text().split()[0])
    )
    local = Ended(tmp_path, "import", path, *COLUMNS)
    assert (local.code, "1 refused: no_zone: times without an offset from UTC; say" in local.out) == (1, True)
    assert "--zone, such as Europe/Berlin\n" in local.out
    mistake = Ended(tmp_path, "import", path)
    assert (mistake.code, mistake.out) == (2, "")
    assert "a CSV needs --case, --activity and --timestamp" in mistake.err
