"""Following an outbox table in PostgreSQL: what was committed counts, once, whenever its transaction ended."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import otel_orders
from otel_orders import names
from otel_orders.errors import ConfigurationError
from otel_orders.ledger import gaps
from otel_orders.ledger.service import Ledger, open_store
from otel_orders.testing import captured_events
from tests.ledger.strategies import LIFECYCLE
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres import Postgres

Shop = psycopg.Connection[Any]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_orders.ledger.polling.LOOK_EVERY", 0.02)
    monkeypatch.setattr(gaps, "GRACE", 0.1)


@pytest.fixture
def shop(postgres_url: str) -> Iterator[Shop]:
    with psycopg.connect(postgres_url) as connection:
        connection.execute(otel_orders.OUTBOX_SCHEMA["postgresql"])
        connection.commit()
        yield connection


@contextmanager
def following(folder: Path, url: str) -> Iterator[Ledger]:
    with closing(Ledger(open_store(f"sqlite:///{folder / 'ledger.db'}"), LIFECYCLE, "test", [url])) as ledger:
        yield ledger


def write(shop: Shop, order_id: str) -> None:
    """Insert an event as the library does, and leave the transaction open."""
    with captured_events(service="shop-api"), otel_orders.transition_context(order_id, "INITIATED") as moving:
        moving.version = 1
        moving.outbox(shop)


def accepted(ledger: Ledger) -> int:
    return ledger._store.totals().get((names.LEDGER_EVENTS, "accepted"), 0)


def duplicates(ledger: Ledger) -> int:
    return ledger._store.totals().get((names.LEDGER_EVENTS, "duplicate"), 0)


def known_gaps(ledger: Ledger) -> int:
    return len(ledger._followers[0]._reached.gaps)  # type: ignore[union-attr]


def test_rows_are_read_as_they_are_committed(shop: Shop, postgres_url: str, tmp_path: Path) -> None:
    with following(tmp_path, postgres_url) as ledger:
        for place in range(3):
            write(shop, f"A-{place}")
            assert ledger.story(f"A-{place}") is None
            shop.commit()
            wait_for(lambda: ledger.story(f"A-{place}"))  # noqa: B023 - called at once
        write(shop, "B-1")
        shop.rollback()
        write(shop, "A-3")
        shop.commit()
        wait_for(lambda: accepted(ledger) == 4)
        assert ledger.story("B-1") is None


def test_a_transaction_that_commits_late_is_read_however_long_it_took(
    shop: Shop, postgres_url: str, tmp_path: Path
) -> None:
    """Its id is lower than those that were read before, and others that never come stand beside it."""
    with following(tmp_path, postgres_url) as ledger, psycopg.connect(postgres_url) as slow:
        write(slow, "slow-1")
        for place in range(5):
            write(shop, f"A-{place}")
            shop.commit()
            write(shop, f"gone-{place}")
            shop.rollback()
        write(slow, "slow-2")
        write(shop, "A-5")
        shop.commit()
        wait_for(lambda: accepted(ledger) == 6)
        started = time.monotonic()
        wait_for(lambda: time.monotonic() > started + 20 * gaps.GRACE)
        assert known_gaps(ledger) >= 3, "as long as it is open, nothing can be given up"
        slow.commit()
        wait_for(lambda: ledger.story("slow-1") and ledger.story("slow-2"))
        wait_for(lambda: known_gaps(ledger) == 0)
        assert (accepted(ledger), duplicates(ledger)) == (8, 0)


def test_a_late_transaction_is_read_also_after_a_restart(shop: Shop, postgres_url: str, tmp_path: Path) -> None:
    with psycopg.connect(postgres_url) as slow:
        with following(tmp_path, postgres_url) as ledger:
            write(slow, "slow")
            write(shop, "A-1")
            shop.commit()
            wait_for(lambda: accepted(ledger) == 1)
        slow.commit()
    with following(tmp_path, postgres_url) as ledger:
        wait_for(lambda: ledger.story("slow"))
        assert (accepted(ledger), duplicates(ledger)) == (2, 0)


def test_many_rows_are_read_in_portions_also_late_ones(shop: Shop, postgres_url: str, tmp_path: Path) -> None:
    def many(connection: Shop, name: str) -> None:
        connection.execute(
            "INSERT INTO otel_orders_outbox (event) SELECT jsonb_build_object('event_type', 'order.status_changed',"
            " 'order_id', %s || '-' || place, 'to_status', 'INITIATED', 'service', 'shop-api', 'env', 'test',"
            " 'event_id', place::text, 'occurred_at', %s::bigint)::text FROM generate_series(1, 2500) AS place",
            (name, time.time_ns()),
        )

    with following(tmp_path, postgres_url) as ledger, psycopg.connect(postgres_url) as slow:
        many(slow, "slow")
        many(shop, "quick")
        shop.commit()
        wait_for(lambda: accepted(ledger) == 2500)
        slow.commit()
        wait_for(lambda: accepted(ledger) == 5000)
        wait_for(lambda: known_gaps(ledger) == 0)
        assert duplicates(ledger) == 0


def test_a_row_that_is_no_event_costs_only_itself(shop: Shop, postgres_url: str, tmp_path: Path) -> None:
    shop.execute("INSERT INTO otel_orders_outbox (event) VALUES ('no json'), ('[]')")
    write(shop, "A-1")
    shop.commit()
    with following(tmp_path, postgres_url) as ledger:
        wait_for(lambda: ledger.story("A-1"))
        assert ledger._store.totals()[names.LEDGER_EVENTS, "rejected"] == 2


def test_a_table_that_comes_later_is_followed_from_its_beginning(postgres_url: str, tmp_path: Path) -> None:
    with following(tmp_path, postgres_url) as ledger, psycopg.connect(postgres_url) as shop:
        shop.execute(otel_orders.OUTBOX_SCHEMA["postgresql"])
        write(shop, "A-1")
        shop.commit()
        wait_for(lambda: ledger.story("A-1"))


def test_ids_that_sessions_keep_for_later_are_refused(
    shop: Shop, postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop.execute("ALTER TABLE otel_orders_outbox ALTER id SET CACHE 20")
    shop.commit()
    with following(tmp_path, postgres_url):
        wait_for(lambda: "ALTER id SET CACHE 1" in caplog.text)


def test_a_database_that_goes_away_is_followed_again(private_postgres: Postgres, tmp_path: Path) -> None:
    with private_postgres.new() as url, ExitStack() as stack:
        with psycopg.connect(url) as shop:
            shop.execute(otel_orders.OUTBOX_SCHEMA["postgresql"])
            write(shop, "A-1")
        ledger = stack.enter_context(following(tmp_path, url))
        wait_for(lambda: ledger.story("A-1"))
        private_postgres.stop()
        private_postgres.start()
        with psycopg.connect(url) as shop:
            write(shop, "A-2")
        wait_for(lambda: ledger.story("A-2"))


def test_a_url_that_cannot_be_one_shows_no_password_and_leaves_nothing_running(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    store = open_store(f"sqlite:///{tmp_path / 'l.db'}")
    with pytest.raises(ConfigurationError, match="--follow") as caught:
        Ledger(store, LIFECYCLE, "test", [str(tmp_path / "file"), "postgresql://me:s3cr3t%zz@here/shop"])
    assert "s3cr3t" not in str(caught.value)
    assert set(threading.enumerate()) <= before
    store.close()


def test_of_two_ledgers_that_follow_one_table_the_second_reads_nothing_again(
    shop: Shop, postgres_url: str, tmp_path: Path
) -> None:
    with following(tmp_path, postgres_url) as first, following(tmp_path, postgres_url) as second:
        (behind,) = second._followers
        behind.close()  # it looks when it is told to
        write(shop, "A-0")
        shop.rollback()
        write(shop, "A-1")
        shop.commit()
        wait_for(lambda: first.story("A-1"))
        assert behind._read(shop) is False  # type: ignore[union-attr, arg-type]
        assert (accepted(second), duplicates(second), known_gaps(second)) == (1, 0, 1)
