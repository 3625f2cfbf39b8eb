from __future__ import annotations

import random
import select
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from otel_orders import names
from otel_orders.errors import StoreUnavailableError, StoreVersionError
from otel_orders.ledger.store import Batch, Received, sqlite_file
from otel_orders.ledger.store import sqlite_schema as module
from otel_orders.ledger.store.sqlite import SqliteStore
from tests.ledger import audit
from tests.ledger.strategies import DAY, LIFECYCLE, PLAN, START, path

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_orders.ledger.kept import Kept

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def kind() -> str:
    return "sqlite"


LIFE = path("INITIATED", "FILE_UPLOADED", "SUBMITTED")


def of(order_id: str, events: list[Kept]) -> list[Received]:
    return [Received(order_id, one) for one in events]


def test_a_store_survives_closing_and_opening_again(store_path: str) -> None:
    for one in LIFE:
        store = SqliteStore(store_path)
        Batch(store, PLAN).ingest(of("1", [one]))
        store.close()
    store = SqliteStore(store_path)
    audit.check(store, {"1": LIFE}, PLAN)
    assert store.size() >= Path(store_path).stat().st_size > 0
    store.close()


def test_a_newer_schema_is_refused_and_left_alone(store_path: str) -> None:
    SqliteStore(store_path).close()
    connection = sqlite3.connect(store_path)
    connection.execute(f"PRAGMA user_version = {module.VERSION + 1}")
    connection.close()
    before = Path(store_path).read_bytes()
    with pytest.raises(StoreVersionError, match=f"{store_path} has schema {module.VERSION + 1}.*upgrade"):
        SqliteStore(store_path)
    assert Path(store_path).read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"This is a text, and a rather long one at that. " * 50, b"SQLite format 3\0" * 99]
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(store_path: str, content: bytes) -> None:
    Path(store_path).write_bytes(content)
    with pytest.raises(StoreUnavailableError, match=store_path):
        SqliteStore(store_path)
    assert Path(store_path).read_bytes() == content


@pytest.mark.parametrize("place", [".", "missing/orders.db"])
def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path, place: str) -> None:
    with pytest.raises(StoreUnavailableError, match=str(tmp_path / place)):
        SqliteStore(str(tmp_path / place))


def test_a_full_disk_keeps_nothing_of_the_batch_and_the_sender_may_try_again(store: SqliteStore) -> None:
    batch = Batch(store, PLAN)
    batch.ingest(of("1", LIFE))
    before = (store.totals(), store.state("1"))
    received = [one for number in range(200) for one in of(f"order-{number}", LIFE)]
    store._writer.execute("PRAGMA max_page_count = 20").fetchall()
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="full"):
            batch.ingest([*of("1", path("CANCELLED")), *received], rejected={"late": 1}, notes={"offset": "1"})
    assert (store.totals(), store.state("1"), store.get("offset")) == (*before, None)

    store._writer.execute("PRAGMA max_page_count = 1000000").fetchall()
    batch.ingest(received)
    audit.check(store, {"1": LIFE} | {f"order-{number}": LIFE for number in range(200)}, PLAN)


def test_a_disk_that_takes_no_more_bytes_keeps_nothing_of_the_batch(store_path: str) -> None:
    """Really so: the operating system refuses to let the file of this child process grow."""
    SqliteStore(store_path).close()
    child = subprocess.run(
        [sys.executable, "-c", LIMITED, store_path], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert child.stdout == "StoreUnavailableError 0\n"


LIMITED = """
import resource, sys
from otel_orders.errors import StoreUnavailableError
from otel_orders.ledger.store import Batch, Received
from otel_orders.ledger.store.sqlite import SqliteStore
from tests.ledger.strategies import PLAN, path

store = SqliteStore(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
try:
    Batch(store, PLAN).ingest([Received(f"{n}", one) for n in range(1000) for one in path("INITIATED", "SUBMITTED")])
except StoreUnavailableError as error:
    print(type(error).__name__, sum(store.totals().values()))
"""


def test_a_store_that_cannot_be_written_can_still_be_read(store: SqliteStore) -> None:
    batch = Batch(store, PLAN)
    batch.ingest(of("1", LIFE))
    store._writer.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreUnavailableError, match="readonly"):
        batch.ingest(of("2", LIFE))
    assert list(audit.orders(store)) == ["1"]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_taken_away_takes_no_more_events(store_path: str, *, replaced: bool) -> None:
    store = SqliteStore(store_path)
    batch = Batch(store, PLAN)
    batch.ingest(of("1", LIFE))
    Path(store_path).rename(f"{store_path}.old")
    if replaced:
        Path(store_path).write_bytes(b"")
    with pytest.raises(StoreUnavailableError, match="moved or deleted") as gone:
        batch.ingest(of("2", LIFE))
    assert gone.value.reason == "gone"
    Path(f"{store_path}.old").rename(store_path)
    batch.ingest(of("2", LIFE))
    assert list(audit.orders(store)) == ["1", "2"]
    store.close()


def test_a_closed_store_says_so(store_path: str) -> None:
    store = SqliteStore(store_path)
    store.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        store.totals()
    with pytest.raises(StoreUnavailableError, match="closed"):
        Batch(store, PLAN).ingest(of("1", LIFE))


def test_an_error_inside_a_transaction_leaves_no_trace(store: SqliteStore) -> None:
    with pytest.raises(ZeroDivisionError), store.transaction() as tx:  # noqa: PT012 - what is raised is not tested
        tx.put("key", "value")
        tx.add({(names.REACHED, "SUBMITTED"): 1})
        raise ZeroDivisionError
    assert (store.get("key"), store.totals()) == (None, {})
    Batch(store, PLAN).ingest(of("1", LIFE))


def test_readers_see_only_what_is_committed(open_store: Callable[[], SqliteStore]) -> None:
    store, other = open_store(), open_store()
    with store.transaction() as tx:
        tx.put("key", "value")
        assert (store.get("key"), other.get("key")) == (None, None)
    assert (store.get("key"), other.get("key")) == ("value", "value")


def test_a_writer_that_waits_too_long_is_told_to_come_back(
    open_store: Callable[[], SqliteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    monkeypatch.setattr(sqlite_file, "BUSY", 0.01)
    other = open_store()
    with store.transaction() as tx:
        tx.put("key", "value")
        with pytest.raises(StoreUnavailableError, match="locked"):
            Batch(other, PLAN).ingest(of("1", LIFE))
    Batch(other, PLAN).ingest(of("1", LIFE))


def test_many_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    for attempt in range(10):
        start = threading.Barrier(4)

        def opened(path: str = str(tmp_path / f"{attempt}.db"), start: threading.Barrier = start) -> SqliteStore:
            start.wait()
            return SqliteStore(path)

        with ThreadPoolExecutor(4) as pool:
            for future in [pool.submit(opened) for _ in range(4)]:
                future.result().close()


class Sender:
    """A child process that keeps batches, and is killed with SIGKILL."""

    def __init__(self, path: str) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.ledger.sender", path],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._answers(1, 60) == 1

    def send(self, batches: list[list[Received]]) -> None:
        assert self._child.stdin
        self._child.stdin.write(b"".join(msgspec.json.encode(batch) + b"\n" for batch in batches))
        self._child.stdin.flush()

    def kept(self, wanted: int, then: float) -> int:
        """Wait until *wanted* batches are kept, then at most *then* seconds more; return how many are."""
        return self._answers(wanted, 60) + self._answers(1, then)

    def _answers(self, wanted: int, timeout: float) -> int:
        assert self._child.stdout
        found = 0
        while found < wanted and select.select([self._child.stdout], [], [], timeout)[0]:
            found += self._child.stdout.raw.read(1 << 16).count(b"\n")  # type: ignore[attr-defined]
        return found

    def kill(self) -> int:
        """Kill it; return how many batches it had answered and nobody read."""
        self._child.kill()
        out, _ = self._child.communicate()
        return out.count(b"\n")


def lives(rng: random.Random, orders: int) -> dict[str, list[Kept]]:
    """Return the ways of some orders through the lifecycle, from its start on."""
    return {f"order-{number}": path(*walk(rng), start=START + rng.randrange(DAY)) for number in range(orders)}


def walk(rng: random.Random) -> list[str]:
    found = ["INITIATED"]
    while len(found) < 15 and (ahead := LIFECYCLE.statuses[found[-1]].next):
        found.append(rng.choice(ahead))
    return found


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_and_nothing_counts_twice_when_the_process_is_killed(store_path: str) -> None:
    rng = random.Random(7)
    events = lives(rng, 60)
    unsent = [Received(order_id, one) for order_id, some in events.items() for one in some]
    rng.shuffle(unsent)
    sent: list[Received] = []
    rounds = 0
    while unsent:
        rounds += 1
        again = rng.sample(sent, min(len(sent), 10))
        to_send = again + unsent
        batches = [to_send[start : start + 8] for start in range(0, len(to_send), 8)]
        sender = Sender(store_path)
        sender.send(batches)
        kept = min(len(batches), sender.kept(rng.randrange(4), rng.uniform(0, 0.01)) + sender.kill())
        sent += unsent[: max(0, kept * 8 - len(again))]
        unsent = unsent[max(0, kept * 8 - len(again)) :]
        store = SqliteStore(store_path)
        found = {(order_id, one.id) for order_id, order in audit.orders(store).items() for one in order.events}
        assert {(received.order_id, received.event.id) for received in sent} <= found
        audit.check(store, {order_id: order.events for order_id, order in audit.orders(store).items()}, PLAN)
        store.close()
    assert rounds > 5
    store = SqliteStore(store_path)
    while Batch(store, PLAN).sweep(START + 60 * DAY):
        pass
    audit.check(store, events, PLAN, START + 60 * DAY)
    received = {series[1]: count for series, count in store.totals().items() if series[0] == names.LEDGER_EVENTS}
    assert received.pop("duplicate") > 0
    assert sum(received.values()) == sum(map(len, events.values()))
    store.close()


@pytest.mark.slow
def test_two_processes_that_write_at_once_neither_block_nor_lose(store_path: str) -> None:
    rng = random.Random(11)
    events = lives(rng, 40)
    received = [Received(order_id, one) for order_id, some in events.items() for one in some]
    senders = [Sender(store_path) for _ in range(2)]
    for sender in senders:
        rng.shuffle(received)
        batches = [received[start : start + 5] for start in range(0, len(received), 5)]
        sender.send(batches)
    for sender in senders:
        assert sender.kept(len(batches), 0) == len(batches)
        sender.kill()
    store = SqliteStore(store_path)
    audit.check(store, events, PLAN)
    assert store.totals()[names.LEDGER_EVENTS, "duplicate"] == len(received)
    store.close()
