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
import os, signal, sqlite3
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
    assert len(named) > 8
    assert named <= known
