"""Moving a store: everything arrives, nothing half, and nothing is written over."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from otel_orders.errors import ConfigurationError, StoreError, StoreUnavailableError
from otel_orders.ledger import copying
from otel_orders.ledger.copying import copy, first_difference
from otel_orders.ledger.service import open_store
from otel_orders.ledger.store import Batch, MessageNote, Received, Seen
from tests.integration.processes import COMMAND
from tests.ledger import audit
from tests.ledger.stores import impatient, raw
from tests.ledger.strategies import DAY, PLAN, START, event, path
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otel_orders.ledger.kept import Kept
    from otel_orders.ledger.store import Store

ORDERS = 300
LIVES = {
    **{f"order-{place:03}": path("INITIATED", "SUBMITTED", start=START + place) for place in range(ORDERS)},
    "a\0b": path("INITIATED", "CANCELLED"),
    "\1é": [event("MYSTERY")],
    "known-by-a-message": [event("confirmed", kind=3)],
}  # fmt: skip


def fill(store: Store, lives: dict[str, list[Kept]] = LIVES) -> None:
    batch = Batch(store, PLAN)
    batch.rebase()
    seen = [Seen("mes-api", instance, "web", START, "abc") for instance in ("", "pod-1")]
    received = [Received(order_id, one) for order_id, life in lives.items() for one in life]
    batch.ingest(received, seen=seen, rejected={"late": 3}, notes={"follow:/x": "{}"})
    while batch.sweep(START + DAY):
        pass
    with store.transaction() as tx:
        tx.published([MessageNote("q", f"m-{place}", "order-001", START + place) for place in range(5)])
        tx.settled([MessageNote("q", f"m-{place}", "order-001", START + place) for place in range(3, 7)])
        tx.advance({("departed", "SUBMITTED"): START + 7})


@pytest.fixture(params=["sqlite to postgres", "postgres to sqlite"])
def places(request: pytest.FixtureRequest, store_path: str, postgres_url: str) -> tuple[str, str]:
    both = (f"sqlite:///{store_path}", postgres_url)
    return both if request.param == "sqlite to postgres" else (both[1], both[0])


@pytest.fixture
def source(places: tuple[str, str]) -> Iterator[Store]:
    with closing(open_store(places[0])) as store:
        yield store


@pytest.fixture
def target(places: tuple[str, str]) -> Iterator[Store]:
    with closing(open_store(places[1])) as store:
        yield store


def test_everything_arrives(source: Store, target: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "AT_ONCE", 100)
    fill(source)
    said: list[int] = []
    assert copy(source, target, said.append) == len(LIVES)
    assert said == [100, 200, 300, 303]
    audit.check(target, LIVES, PLAN, START + DAY)
    assert {series: value for series, value in target.totals().items() if value} == {
        series: value for series, value in source.totals().items() if value
    }
    assert target.items("") == source.items("")
    assert target.seen() == source.seen()
    assert target.moments() == source.moments()
    assert target.moments()["departed", "SUBMITTED"] == START + 7
    assert target.oldest_messages() == {"q": MessageNote("q", "m-0", "order-001", START)}
    with target.transaction() as tx:
        assert tx.forget_messages("q", START + 10) == 3
    # Timers run on there.
    assert Batch(target, PLAN).sweep(START + 60 * DAY) == Batch(source, PLAN).sweep(START + 60 * DAY) > 0


def test_a_store_that_holds_anything_is_not_written_over(source: Store, target: Store) -> None:
    fill(source)
    with target.transaction() as tx:
        tx.put("env", "prod")
    with pytest.raises(ConfigurationError, match="not empty"):
        copy(source, target, print)
    assert (target.items(""), target.totals(), list(target.all_ids(1))) == ({"env": "prod"}, {}, [])


def test_nobody_writes_the_source_meanwhile(source: Store, target: Store, places: tuple[str, str]) -> None:
    fill(source)
    with closing(open_store(places[0])) as running:
        impatient(running)

        def write(_: int) -> None:
            with pytest.raises(StoreUnavailableError, match="lock"):
                Batch(running, PLAN).ingest([Received("new", event("INITIATED"))])

        copy(source, target, write)
    assert "new" not in audit.orders(target)


@pytest.mark.parametrize(
    ("statement", "difference"),
    [
        ("UPDATE orders SET due_at = 5 WHERE order_id = 'order-005'", "orders"),
        ("DELETE FROM orders WHERE order_id = 'order-299'", "orders"),
        ("UPDATE totals SET value = value + 1 WHERE series LIKE '%reached%'", "totals"),
        ("DELETE FROM meta WHERE key = 'follow:/x'", "settings and offsets"),
        ("DELETE FROM seen WHERE instance = 'pod-1'", "services seen"),
        ("UPDATE moments SET at = 1", "moments"),
        ("UPDATE messages SET settled_at = 1 WHERE message_id = 'm-0'", "messages"),
    ],
)
def test_a_difference_is_found(source: Store, target: Store, statement: str, difference: str) -> None:
    fill(source)
    copy(source, target, lambda _: None)
    assert first_difference(source, target) is None
    with raw(target) as connection:
        connection.execute(statement)
    assert first_difference(source, target) == difference


def test_a_copy_that_differs_is_not_called_done(source: Store, target: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(source)
    monkeypatch.setattr(copying, "_rest", lambda *_: None)
    with pytest.raises(StoreError, match="differs from its source in totals"):
        copy(source, target, lambda _: None)


def command(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, "ledger", "copy", *arguments], stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_copy_that_was_killed_left_nothing_and_is_run_again(store_path: str, postgres_url: str) -> None:
    lives = {f"order-{place:05}": path("INITIATED") for place in range(20_000)}
    with closing(open_store(f"sqlite:///{store_path}")) as source:
        fill(source, lives)
    urls = (f"sqlite:///{store_path}", postgres_url)
    with closing(open_store(postgres_url)) as target:
        killed = command(*urls)
        with raw(target) as connection:  # grown, and still invisible
            wait_for(lambda: connection.execute("SELECT pg_relation_size('orders_0')").fetchone()[0] > 50_000)
        killed.send_signal(signal.SIGKILL)
        assert killed.wait(20) == -signal.SIGKILL
        assert killed.stderr
        killed.stderr.close()
        assert copying.is_empty(target)
        again = command(*urls)
        _, said = again.communicate(timeout=120)
        assert (again.returncode, said) == (
            0,
            "otel-orders: copied 20,000 orders with all totals, and compared both: they are the same\n",
        )
        audit_totals = target.totals()
        assert sum(map(len, target.rows(5_000))) == 20_000
    with closing(open_store(urls[0])) as source:
        assert {series: value for series, value in source.totals().items() if value} == audit_totals
    refused = command(*urls)
    _, said = refused.communicate(timeout=60)
    assert (refused.returncode, said) == (
        2,
        "otel-orders: the target is not empty: nothing was copied; give an empty database\n",
    )


def test_a_source_that_is_not_there_is_not_made(tmp_path: Path, postgres_url: str) -> None:
    missing = tmp_path / "typo.db"
    refused = command(f"sqlite:///{missing}", postgres_url)
    _, said = refused.communicate(timeout=60)
    assert (refused.returncode, said) == (2, f"otel-orders: sqlite:///{missing}: there is no such file\n")
    assert not missing.exists()


def test_an_older_file_is_copied_too(tmp_path: Path, postgres_url: str) -> None:
    """Its schema is brought forward first."""
    from otel_orders.ledger.store.sqlite_schema import SCHEMA_1  # noqa: PLC0415

    with closing(sqlite3.connect(tmp_path / "old.db")) as old:
        for statement in SCHEMA_1:
            old.execute(statement)
        old.execute('INSERT INTO totals VALUES (\'["orders_reached_total","SUBMITTED"]\', 7)')
        old.commit()
    with closing(open_store(f"sqlite:///{tmp_path / 'old.db'}")) as source, closing(open_store(postgres_url)) as target:
        assert copy(source, target, print) == 0
        assert target.totals() == source.totals()
