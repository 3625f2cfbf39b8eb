"""A copy of a store is one moment of it, whole, and a store again."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Self

import pytest

from otel_orders.errors import ConfigurationError, StoreUnavailableError, StoreVersionError
from otel_orders.ledger.check import check
from otel_orders.ledger.store import Batch, Received
from otel_orders.ledger.store import backup as module
from otel_orders.ledger.store.backup import copy
from otel_orders.ledger.store.sqlite import SqliteStore
from tests.ledger import audit
from tests.ledger.strategies import PLAN, path
from tests.sinks.receiver import wait_for

LIFE = path("INITIATED", "FILE_UPLOADED", "SUBMITTED")


@pytest.fixture(scope="session")
def kind() -> str:
    return "sqlite"


@pytest.fixture
def source(store: SqliteStore) -> Path:
    keep(store, 0)
    return Path(store._path)


def keep(store: SqliteStore, number: int) -> None:
    Batch(store, PLAN).ingest([Received(f"{number}-{place}", one) for place in range(20) for one in LIFE])


class Load:
    """Writes batches of 20 orders as fast as it can until stopped."""

    def __init__(self, store: SqliteStore) -> None:
        self.batches = 0
        self._store = store
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.batches += 1
            keep(self._store, self.batches)


def test_a_backup_under_load_is_one_moment_and_holds_up_nobody(
    store: SqliteStore, source: Path, tmp_path: Path
) -> None:
    with Load(store) as load:
        for number in range(3):
            before = load.batches
            wait_for(lambda: load.batches >= before + 3)  # noqa: B023 - called at once
            copy(source, tmp_path / f"backup-{number}")
        after = load.batches
        wait_for(lambda: load.batches > after)
    for number in range(3):
        with closing(SqliteStore(str(tmp_path / f"backup-{number}"))) as copied:
            found = check(copied, PLAN)
            assert found.right
            assert found.orders % 20 == 0  # no half a batch
            assert found.orders >= 20 * (3 * number + 2)


def test_a_backup_is_one_file_and_holds_what_was_committed_before_it(
    store: SqliteStore, source: Path, tmp_path: Path
) -> None:
    before = (store.totals(), {order_id: store.state(order_id) for order_id in audit.orders(store)})
    folder = tmp_path / "backups"
    folder.mkdir()
    size = copy(source, folder / "ledger.db")
    assert [file.name for file in folder.iterdir()] == ["ledger.db"]
    assert size == (folder / "ledger.db").stat().st_size
    keep(store, 1)
    with closing(SqliteStore(str(folder / "ledger.db"))) as copied:
        assert (copied.totals(), {order_id: copied.state(order_id) for order_id in audit.orders(copied)}) == before
        keep(copied, 2)  # it is a store like any other
        assert check(copied, PLAN).right


def test_a_backup_that_fails_leaves_nothing_behind(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()

    def fails(_: Path, target: Path) -> None:
        for suffix in ("", "-journal"):  # as SQLite leaves them on a full disk
            target.with_name(target.name + suffix).write_text("half")
        raise StoreUnavailableError("database or disk is full")

    monkeypatch.setattr(module, "_copy", fails)
    with pytest.raises(StoreUnavailableError):
        copy(source, folder / "ledger.db")
    assert list(folder.iterdir()) == []


def test_what_is_there_already_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    for name in ("ledger.db", "ledger.db-wal"):
        there = tmp_path / name
        there.write_text("precious")
        with pytest.raises(ConfigurationError, match="is there already"):
            copy(source, tmp_path / "ledger.db")
        assert there.read_text() == "precious"
        there.unlink()


def no_store(folder: Path) -> Path:
    with closing(sqlite3.connect(folder / "other.db")) as other:
        other.execute("CREATE TABLE things (name TEXT)")
    return folder / "other.db"


def no_database(folder: Path) -> Path:
    (folder / "notes.txt").write_text("no database " * 200)
    return folder / "notes.txt"


def of_the_future(folder: Path) -> Path:
    with closing(sqlite3.connect(folder / "later.db")) as later:
        later.execute("PRAGMA user_version = 99")
    return folder / "later.db"


def damaged(folder: Path) -> Path:
    file = folder / "damaged.db"
    with closing(SqliteStore(str(file))) as store:
        for number in range(20):
            keep(store, number)
    pages = bytearray(file.read_bytes())
    for place in range(20 * 1024, len(pages), 1024):
        pages[place : place + 8] = b"\xff" * 8
    file.write_bytes(pages)
    return file


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (no_store, ConfigurationError),
        (no_database, StoreUnavailableError),
        (of_the_future, StoreVersionError),
        (damaged, StoreUnavailableError),
        (lambda folder: folder / "none.db", ConfigurationError),
        (lambda folder: folder, ConfigurationError),
    ],
)
def test_what_is_no_good_store_makes_no_backup(tmp_path: Path, make: object, error: type[Exception]) -> None:
    bad = make(tmp_path)  # type: ignore[operator]
    target = tmp_path / "new" / "ledger.db"
    target.parent.mkdir()
    with pytest.raises(error):
        copy(bad, target)
    assert list(target.parent.iterdir()) == []


def test_what_a_killed_backup_left_is_gone_after_the_next(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    for left in ("copy.db.part", "copy.db.part-journal"):
        (folder / left).write_bytes(b"half of it")
    copy(source, folder / "copy.db")
    assert list(folder.iterdir()) == [folder / "copy.db"]


def test_a_folder_that_is_not_there_is_said(source: Path, tmp_path: Path) -> None:
    with pytest.raises((ConfigurationError, StoreUnavailableError)):
        copy(source, tmp_path / "none" / "ledger.db")
