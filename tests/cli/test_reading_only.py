"""Commands that only read write nothing: not to what is no store of this version, and not to a read-only disk."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from otel_orders.ledger.service import Ledger
from otel_orders.ledger.store.backup import copy
from otel_orders.ledger.store.sqlite import SqliteStore
from otel_orders.ledger.store.sqlite_schema import SCHEMA_1
from otel_orders.lifecycle import load_lifecycle
from tests.integration.processes import LIFECYCLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]

READING = [
    ("report",),
    ("ledger", "check"),
    ("ledger", "audit"),
    ("ledger", "export", "--what", "visits", "--format", "csv", "{out}"),
]
CHANGING = [("ledger", "check", "--repair"), ("erase", "A-1"), ("release", "A-1")]


def on(command: tuple[str, ...], store: str, folder: Path) -> list[str]:
    words = [word.replace("{out}", str(folder / "out.csv")) for word in command]
    return [*words, "--store", store, "--lifecycle", str(LIFECYCLE)]


def of_another_application(path: Path) -> None:
    with closing(sqlite3.connect(path)) as shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        shop.execute("PRAGMA user_version = 7")


def of_an_older_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as old:
        for statement in SCHEMA_1:
            old.execute(statement)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (of_another_application, "is no ledger's store, but another application's database"),
        (of_an_older_version, "has schema 1 of an older otel_orders"),
        (lambda path: path.touch(), "is no ledger's store: it is empty"),
    ],
)
@pytest.mark.parametrize("command", READING + CHANGING)
def test_a_file_that_is_no_store_of_this_version_is_left_as_it_is(
    run: Run, tmp_path: Path, command: tuple[str, ...], make: Callable[[Path], None], says: str
) -> None:
    file = tmp_path / "some.db"
    make(file)
    before = file.read_bytes()
    code, out, err = run(*on(command, f"sqlite:///{file}", tmp_path))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_no_ledger_starts_in_another_applications_database(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    of_another_application(file)
    before = file.read_bytes()
    command = ("ledger", "--env", "test", "--port", "0", "--no-grpc")
    code, _, err = run(*on(command, f"sqlite:///{file}", tmp_path))
    assert (code, "another application's database" in err, file.read_bytes() == before) == (2, True, True)


@pytest.mark.parametrize("command", [*READING, ("erase", "A-1")])
def test_a_database_without_a_store_stays_without_one(
    run: Run, tmp_path: Path, postgres_url: str, command: tuple[str, ...]
) -> None:
    code, _, err = run(*on(command, postgres_url, tmp_path))
    assert (code, "no ledger has ever used this database" in err) == (2, True)
    with psycopg.connect(postgres_url) as connection:
        found = connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'otel_orders'").fetchone()
    assert found == (0,)


@contextmanager
def mounted(disk: Path, size: str = "10m") -> Iterator[None]:
    """Let *disk* be a file system of its own inside the block."""
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(command, check=False).returncode:
        pytest.skip("a disk of its own needs the right to mount one")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("as_backup", [True, False], ids=["backup", "store"])
def test_a_store_on_a_read_only_disk_is_read_all_the_same(run: Run, tmp_path: Path, *, as_backup: bool) -> None:
    original, disk = tmp_path / "ledger.db", tmp_path / "disk"
    Ledger(SqliteStore(str(original)), load_lifecycle(str(LIFECYCLE)), "test").close()
    with mounted(disk):
        store = f"sqlite:///{disk / 'ledger.db'}"
        if as_backup:
            copy(original, disk / "ledger.db")
        else:
            (disk / "ledger.db").write_bytes(original.read_bytes())
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for command in READING:
            assert run(*on(command, store, tmp_path))[0] == 0, command
        assert run("ledger", "backup", "--store", store, tmp_path / "copy.db")[0] == 0
        code, _, err = run(*on(("erase", "A-1"), store, tmp_path))
        assert (code, err.count("\n")) == (2, 1)
        assert f"the folder {disk} is read-only" in err


def test_a_backup_that_finds_no_room_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    original, disk = tmp_path / "ledger.db", tmp_path / "disk"
    with closing(SqliteStore(str(original))) as store, store.transaction() as tx:
        tx.put("large", "x" * 500_000)
    with mounted(disk, size="100k"):
        code, _, err = run("ledger", "backup", "--store", f"sqlite:///{original}", disk / "copy.db")
        assert (code, "disk is full" in err) == (2, True)
        assert list(disk.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path: Path, run: Run) -> None:
    command = ("ledger", "--env", "test", "--port", "0", "--no-grpc")
    code, _, err = run(*on(command, f"sqlite:///{tmp_path / 'none' / 'ledger.db'}", tmp_path))
    assert (code, f"there is no folder {tmp_path / 'none'}" in err) == (2, True)
