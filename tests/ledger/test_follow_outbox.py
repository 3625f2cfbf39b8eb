"""Following an application's outbox table: what was committed counts, once."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

import otel_orders
from otel_orders.ledger import outbox
from otel_orders.ledger.service import Ledger, open_store
from otel_orders.lifecycle import load_lifecycle
from otel_orders.testing import captured_events
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIFECYCLE = load_lifecycle("examples/order_pipeline/lifecycle.yaml")


def open_ledger(folder: Path) -> Ledger:
    store = open_store(f"sqlite:///{folder / 'ledger.db'}")
    return Ledger(store, LIFECYCLE, "test", [f"sqlite:///{folder / 'shop.db'}"])


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute(otel_orders.OUTBOX_SCHEMA["sqlite"])
        yield connection


def move(shop: sqlite3.Connection, order_id: str, version: int, status: str, *, commit: bool = True) -> None:
    with captured_events(service="shop-api"), otel_orders.transition_context(order_id, status) as moving:
        moving.version = version
        moving.outbox(shop)
    shop.commit() if commit else shop.rollback()


def statuses(ledger: Ledger, order_id: str, expected: int) -> list[str]:
    """The statuses that the ledger saw, as soon as there are *expected* many."""
    deadline = time.monotonic() + 60
    while True:
        story = ledger.story(order_id)
        seen = [visit["status"] for visit in story["visits"]] if story else []
        if len(seen) >= expected or time.monotonic() > deadline:
            return seen
        time.sleep(0.02)


def test_a_committed_change_reaches_the_ledger_and_a_rolled_back_one_does_not(
    shop: sqlite3.Connection, tmp_path: Path
) -> None:
    with closing(open_ledger(tmp_path)) as ledger:
        move(shop, "A-1", 1, "INITIATED")
        move(shop, "A-1", 2, "CANCELLED", commit=False)
        move(shop, "A-1", 3, "FILE_UPLOADED")
        assert statuses(ledger, "A-1", 2) == ["INITIATED", "FILE_UPLOADED"]


def test_rows_written_while_the_ledger_was_away_are_read_once(shop: sqlite3.Connection, tmp_path: Path) -> None:
    with closing(open_ledger(tmp_path)) as ledger:
        move(shop, "A-1", 1, "INITIATED")
        assert statuses(ledger, "A-1", 1) == ["INITIATED"]
    move(shop, "A-1", 2, "FILE_UPLOADED")
    with closing(open_ledger(tmp_path)) as ledger:
        assert statuses(ledger, "A-1", 2) == ["INITIATED", "FILE_UPLOADED"]
        page = ledger.metrics.page().decode()
    assert 'otel_orders_ledger_events_total{result="accepted"} 2.0' in page
    assert 'otel_orders_ledger_events_total{result="duplicate"} 0.0' in page


def test_a_row_that_is_no_event_costs_only_itself(shop: sqlite3.Connection, tmp_path: Path) -> None:
    shop.execute(  # SQLite keeps any type in any column
        "INSERT INTO otel_orders_outbox (event) VALUES ('no json'), ('[]'), (x'00ff'), (CAST(x'7bff' AS TEXT)), (1.5)"
    )
    move(shop, "A-1", 1, "INITIATED")
    with closing(open_ledger(tmp_path)) as ledger:
        assert statuses(ledger, "A-1", 1) == ["INITIATED"]
        assert 'otel_orders_ledger_events_total{result="rejected"} 5.0' in ledger.metrics.page().decode()


def test_a_table_that_comes_later_is_followed_from_its_beginning(tmp_path: Path) -> None:
    with closing(open_ledger(tmp_path)) as ledger, closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.execute(otel_orders.OUTBOX_SCHEMA["sqlite"])
        move(shop, "A-1", 1, "INITIATED")
        assert statuses(ledger, "A-1", 1) == ["INITIATED"]


def test_a_database_without_the_table_yet_is_no_fault_and_another_table_of_its_name_is_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(open_ledger(tmp_path)) as ledger, closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        (follower,) = ledger._followers
        shop.execute("CREATE TABLE orders (id INTEGER)")
        shop.commit()
        looked_at = time.time()
        wait_for(lambda: follower.poller.caught_up_at > looked_at)
        assert not caplog.records
        shop.execute("CREATE TABLE otel_orders_outbox (number INTEGER)")
        shop.commit()
        wait_for(lambda: "cannot follow the outbox" in caplog.text)
        assert "no such column" in caplog.text
        shop.execute("DROP TABLE otel_orders_outbox")
        shop.execute(otel_orders.OUTBOX_SCHEMA["sqlite"])
        move(shop, "A-1", 1, "INITIATED")
        assert statuses(ledger, "A-1", 1) == ["INITIATED"]


def test_many_rows_are_read_in_pieces(
    shop: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "AT_ONCE", 2)
    for version, status in enumerate(("INITIATED", "FILE_UPLOADED", "SUBMITTED", "CANCELLED"), 1):
        move(shop, "A-1", version, status)
    with closing(open_ledger(tmp_path)) as ledger:
        assert statuses(ledger, "A-1", 4) == ["INITIATED", "FILE_UPLOADED", "SUBMITTED", "CANCELLED"]


def test_of_two_ledgers_that_follow_one_table_the_second_reads_nothing_again(
    shop: sqlite3.Connection, tmp_path: Path
) -> None:
    with closing(open_ledger(tmp_path)) as first, closing(open_ledger(tmp_path)) as second:
        (behind,) = second._followers
        behind.close()  # it looks when it is told to
        for version, status in enumerate(("INITIATED", "FILE_UPLOADED"), 1):
            move(shop, "A-1", version, status)
        assert statuses(first, "A-1", 2) == ["INITIATED", "FILE_UPLOADED"]
        assert behind._read(shop) is False  # type: ignore[union-attr, arg-type]
        page = second.metrics.page().decode()
    assert 'otel_orders_ledger_events_total{result="duplicate"} 0.0' in page
