"""What each way in survives: the cells of the README's table that the other faults do not prove."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import otel_orders
from otel_orders.ledger.store.backup import copy
from tests.integration.processes import Running, running
from tests.ledger import senders
from tests.ledger.senders import changed
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

pytestmark = pytest.mark.fault

README = (Path(__file__).parents[2] / "README.md").read_text()

SERVICE = """
import os, signal, sqlite3, sys, time
import otel_orders
otel_orders.configure("shop-api")
shop = sqlite3.connect(os.environ["SHOP"])
{work}
os.kill(os.getpid(), signal.SIGKILL)
"""
PLAIN = 'otel_orders.record("A-1", "INITIATED")'
IN_TRANSACTION = """
with otel_orders.transition_context("A-1", "INITIATED") as move:
    move.outbox(shop)
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Running]:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.execute(otel_orders.OUTBOX_SCHEMA["sqlite"])
    follow = ("--follow", str(tmp_path / "shop.jsonl"), "--follow", f"sqlite:///{tmp_path / 'shop.db'}")
    with running(tmp_path, *follow) as found:
        yield found


def killed_after(work: str, folder: Path, **environ: str) -> None:
    """Run a service that is killed as soon as *work* is done."""
    ours = {"OTEL_ORDERS_ENV": "test", "OTEL_ORDERS_HEARTBEAT": "0", "SHOP": str(folder / "shop.db")}
    code = SERVICE.format(work=work)
    ended = subprocess.run([sys.executable, "-c", code], env=os.environ | ours | environ, check=False)
    assert ended.returncode == -signal.SIGKILL


def knows(client: httpx.Client, order_id: str) -> bool:
    return client.get(f"/orders/{order_id}").status_code == 200


def test_a_line_survives_the_kill_of_its_service(ledger: Running, tmp_path: Path) -> None:
    killed_after(PLAIN, tmp_path, OTEL_ORDERS_JSON_LINES=str(tmp_path / "shop.jsonl"))
    with ledger.client() as client:
        wait_for(lambda: knows(client, "A-1"))


def test_what_waits_for_otlp_does_not_survive_the_kill_of_its_service(ledger: Running, tmp_path: Path) -> None:
    killed_after(PLAIN, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=ledger.url, OTEL_ORDERS_JSON_LINES="none")
    with ledger.client() as client:
        assert not knows(client, "A-1")


def test_what_was_flushed_over_otlp_survives_it(ledger: Running, tmp_path: Path) -> None:
    work = f"{PLAIN}\notel_orders.shutdown()"
    killed_after(work, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=ledger.url, OTEL_ORDERS_JSON_LINES="none")
    with ledger.client() as client:
        assert knows(client, "A-1")


@pytest.mark.parametrize("committed", [True, False])
def test_a_row_survives_it_exactly_if_its_transaction_does(ledger: Running, tmp_path: Path, *, committed: bool) -> None:
    killed_after(f"{IN_TRANSACTION}\nif {committed}: shop.commit()", tmp_path, OTEL_ORDERS_JSON_LINES="none")
    with ledger.client() as client, closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        with shop:
            shop.execute(
                "INSERT INTO otel_orders_outbox (event) VALUES (?)", (senders.lines([changed("next")]).decode(),)
            )
        wait_for(lambda: knows(client, "next"))
        assert knows(client, "A-1") == committed


POSTED = """
import httpx
line = b'{"event_type": "order.status_changed", "order_id": "A-1", "to_status": "INITIATED", "occurred_at": %d}'
with httpx.Client(trust_env=False) as client:
    client.post(os.environ["LEDGER"] + "/events", content=line % time.time_ns()).raise_for_status()
"""
WITH_A_ROW_OF_ITS_OWN = """
try:
    with otel_orders.transition_context("A-1", "INITIATED") as move:
        shop.execute("INSERT INTO orders VALUES ('A-1')")
        move.outbox(shop)
    shop.commit()
except sqlite3.OperationalError:
    pass
else:
    sys.exit("it was committed")
"""
NO_ROOM = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
"""


@pytest.mark.parametrize("room", ["", NO_ROOM], ids=["killed", "disk full"])
def test_what_had_its_success_by_post_is_kept_whatever_becomes_of_its_service(
    ledger: Running, tmp_path: Path, room: str
) -> None:
    killed_after(room + POSTED, tmp_path, LEDGER=ledger.url, OTEL_ORDERS_JSON_LINES="none")
    with ledger.client() as client:
        assert knows(client, "A-1")


def test_a_full_disk_of_the_service_costs_no_event_over_otlp(ledger: Running, tmp_path: Path) -> None:
    work = f"{NO_ROOM}\n{PLAIN}\notel_orders.shutdown()"
    killed_after(work, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=ledger.url, OTEL_ORDERS_JSON_LINES="none")
    with ledger.client() as client:
        assert knows(client, "A-1")


def test_a_transaction_that_finds_no_room_fails_and_leaves_no_event(ledger: Running, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop, ledger.client() as client:
        shop.execute("CREATE TABLE orders (id TEXT)")
        killed_after(NO_ROOM + WITH_A_ROW_OF_ITS_OWN, tmp_path, OTEL_ORDERS_JSON_LINES="none")
        assert shop.execute("SELECT count(*) FROM otel_orders_outbox").fetchone() == (0,)
        shop.execute("INSERT INTO otel_orders_outbox (event) VALUES (?)", (senders.lines([changed("next")]).decode(),))
        shop.commit()
        wait_for(lambda: knows(client, "next"))
        assert not knows(client, "A-1")


def test_no_line_waits_for_the_disk(tmp_path: Path) -> None:
    """So those that the kernel has not written yet go with their host, and no service ever waits for its log."""
    strace = shutil.which("strace") or pytest.skip("strace shows what reaches the kernel, and is not installed")
    lines, calls = tmp_path / "shop.jsonl", tmp_path / "calls"
    code = SERVICE.format(work=f"{PLAIN}\notel_orders.shutdown()")
    environ = {"OTEL_ORDERS_JSON_LINES": str(lines), "SHOP": ":memory:", "OTEL_ORDERS_HEARTBEAT": "0"}
    watch = [strace, "-f", "-e", "trace=fsync,fdatasync,sync_file_range,openat", "-o", str(calls)]
    subprocess.run([*watch, sys.executable, "-c", code], env=os.environ | environ, check=False, capture_output=True)
    if not calls.exists() or "openat" not in calls.read_text():
        pytest.skip("this machine lets no process be watched")
    opened = [line for line in calls.read_text().splitlines() if str(lines) in line]
    assert opened
    assert not [line for line in opened if "O_SYNC" in line or "O_DSYNC" in line]
    assert "sync(" not in calls.read_text()
    assert "A-1" in lines.read_text()


def test_a_ledger_goes_on_from_where_its_store_stands(tmp_path: Path) -> None:
    """A store that comes back as of an earlier moment lacks what came since, and reads it again."""
    file, table, store = tmp_path / "shop.jsonl", tmp_path / "shop.db", tmp_path / "ledger.db"
    follow = ("--follow", str(file), "--follow", f"sqlite:///{table}")

    def write(order_id: str) -> None:
        with file.open("ab") as lines:
            lines.write(senders.lines([changed(f"file-{order_id}")]))
        with closing(sqlite3.connect(table)) as shop, shop:
            line = senders.lines([changed(f"row-{order_id}")]).decode()
            shop.execute("INSERT INTO otel_orders_outbox (event) VALUES (?)", (line,))

    def both(client: httpx.Client, order_id: str) -> bool:
        return knows(client, f"file-{order_id}") and knows(client, f"row-{order_id}")

    with closing(sqlite3.connect(table)) as shop:
        shop.execute(otel_orders.OUTBOX_SCHEMA["sqlite"])
    write("1")
    with running(tmp_path, *follow) as ledger, ledger.client() as client:
        wait_for(lambda: both(client, "1"))
        copy(store, tmp_path / "earlier.db")
        write("2")
        wait_for(lambda: both(client, "2"))
        ledger.stop(signal.SIGKILL)
    for left in (store, tmp_path / "ledger.db-wal", tmp_path / "ledger.db-shm"):
        left.unlink(missing_ok=True)
    copy(tmp_path / "earlier.db", store)
    with running(tmp_path, *follow) as ledger, ledger.client() as client:
        wait_for(lambda: both(client, "2"))
        assert both(client, "1")
        assert 'otel_orders_ledger_events_total{result="accepted"} 4.0' in client.get("/metrics").text


def test_events_are_forced_to_the_disk_before_their_success_is_sent(tmp_path: Path) -> None:
    """Which is all that a program can do about the loss of its host."""
    strace = shutil.which("strace") or pytest.skip("strace shows what reaches the kernel, and is not installed")
    calls = tmp_path / "calls"
    with running(tmp_path) as ledger, ledger.client() as client:
        client.get("/readyz")
        watch = [strace, "-f", "-s", "40", "-e", "trace=recvfrom,sendto,fsync,fdatasync", "-o", str(calls), "-p"]
        watching = subprocess.Popen([*watch, str(ledger.process.pid)], stderr=subprocess.PIPE, text=True)
        assert watching.stderr is not None
        if "attached" not in watching.stderr.readline():
            pytest.skip("this machine lets no process be watched")
        for place in range(5):
            assert client.post("/events", content=senders.lines([changed(f"A-{place}")])).is_success
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=20)
    found = re.findall(
        r'recvfrom\(.*?"(POST)|(fsync|fdatasync)(?:\(| resumed).*= 0|sendto\(.*?"HTTP/1.1 (200)', calls.read_text()
    )
    seen = ["".join(one)[:5] for one in found]
    story = "".join({"POST": "p", "200": "a"}.get(one, "s") for one in seen)
    assert re.fullmatch(r"s*(ps+a+s*){5}", story), story


def test_each_cell_of_the_table_names_tests_that_there_are() -> None:
    table = README.split("### What each way in survives", 1)[1].split("\n## ", 1)[0].split("\n### ", 1)[0]
    named = set(re.findall(r"test_\w+", table))
    known = {
        name
        for path in (Path(__file__).parents[2] / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert named <= known
    cells = [cell for line in table.splitlines() if line.startswith("| the ") for cell in line.split("|")[2:-1]]
    assert len(cells) == 28
    assert not [cell for cell in cells if "<!-- " not in cell and "(by design)" not in cell]
