"""Whatever happens to the ledger while events come by every way in: none is lost, and none counts twice.

``FAULT_ROUNDS=100`` (``make faults``) is the full form; without it each fault happens a few times.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import subprocess
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.faults.load import Load, accepted, accepted_in
from tests.integration.processes import COMMAND, LIFECYCLE, Running, running, started
from tests.ledger.senders import changed, lines
from tests.sinks import receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.postgres import Postgres

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.no_cover]

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "2"))
PATIENCE = 120.0 + 5 * ROUNDS
"""Seconds: each rotated file takes some, and a ledger whose store is held answers after as many as it waits for it."""


def wait_for(condition: Callable[[], object]) -> None:
    receiver.wait_for(condition, PATIENCE)


@contextmanager
def loaded(folder: Path, store: str | None = None) -> Iterator[Load]:
    """Send inside the block; then let an undisturbed ledger take what is left, and check all.

    store: where, for another than SQLite in *folder*.
    """
    load = Load(folder, store=store)

    def take_the_rest() -> None:
        with of(load, folder) as ledger:
            load.to(ledger)
            done.wait()
            wait_for(lambda: accepted_in(load.store) >= len(load.sent))
            assert ledger.stop(signal.SIGTERM) == 0
            assert "Traceback" not in ledger.errors.read_text()

    done = threading.Event()
    finishing = threading.Thread(target=take_the_rest)
    with load.running():
        try:
            yield load
        except BaseException:
            load.give_up()
            raise
        finishing.start()
    done.set()
    finishing.join()
    assert load.failed > 0  # it was disturbed
    load.check()


def of(load: Load, folder: Path) -> AbstractContextManager[Running]:
    """Run a ledger that takes what *load* sends."""
    where = ("--store", load.store, "--lifecycle", str(LIFECYCLE), "--env", "test")
    return started(folder, "ledger", *where, *load.arguments)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> str | None:
    """Where the ledger keeps what it takes; None for SQLite."""
    return None if request.param == "sqlite" else request.getfixturevalue("durable_url")


@pytest.fixture
def durable_url(private_postgres: Postgres) -> Iterator[str]:
    with private_postgres.new() as url:
        yield url


def test_killed_at_any_moment(tmp_path: Path, store: str | None) -> None:
    rng = random.Random(11)
    with loaded(tmp_path, store) as load:
        for kill in range(ROUNDS):
            with of(load, tmp_path) as ledger:
                load.to(ledger)
                enough = accepted_in(load.store) + rng.randrange(1, 600)
                wait_for(lambda: accepted_in(load.store) >= enough)  # noqa: B023 - at once
                ledger.stop(signal.SIGKILL)
            if kill % 5 == 1:
                load.rotate()


def test_a_database_that_dies_again_and_again(tmp_path: Path, private_postgres: Postgres, durable_url: str) -> None:
    """All totals are compared with those of a reference that folds all that was sent."""
    with loaded(tmp_path, durable_url) as load, of(load, tmp_path) as ledger, ledger.client() as client:
        load.to(ledger)
        for _ in range(ROUNDS):
            enough = accepted_in(durable_url) + 300
            wait_for(lambda: accepted_in(durable_url) >= enough)  # noqa: B023 - at once
            failed = load.failed
            private_postgres.stop()
            wait_for(lambda: load.failed > failed)  # noqa: B023 - at once
            assert client.get("/readyz").status_code == 503
            private_postgres.start()
        wait_for(lambda: client.get("/readyz").is_success)
        load.to(None)
        assert ledger.stop(signal.SIGTERM) == 0
        assert "Traceback" not in ledger.errors.read_text()


def test_stopped_by_a_signal_while_requests_are_under_way(tmp_path: Path) -> None:
    rng = random.Random(12)
    with loaded(tmp_path) as load:
        for _ in range(ROUNDS):
            with running(tmp_path, *load.arguments) as ledger:
                load.to(ledger)
                enough = accepted(tmp_path) + rng.randrange(1, 600)
                wait_for(lambda: accepted(tmp_path) >= enough)  # noqa: B023 - at once
                began = time.monotonic()
                assert ledger.stop(signal.SIGTERM) == 0
                assert time.monotonic() - began < 10
                assert "Traceback" not in ledger.errors.read_text()


def test_out_of_disk_again_and_again(tmp_path: Path) -> None:
    """The limit of a process's files stands in for a full disk; the store grows in its log until it is reached."""
    with loaded(tmp_path) as load, running(tmp_path, *load.arguments) as ledger:
        load.to(ledger)
        for _ in range(ROUNDS):
            _, hard = resource.prlimit(ledger.process.pid, resource.RLIMIT_FSIZE)
            failed = load.failed
            resource.prlimit(ledger.process.pid, resource.RLIMIT_FSIZE, (8192, hard))
            wait_for(lambda: load.failed >= failed + 10)  # noqa: B023 - at once
            resource.prlimit(ledger.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
            enough = accepted(tmp_path) + 300
            wait_for(lambda: accepted(tmp_path) >= enough)  # noqa: B023 - at once
        load.to(None)
        assert ledger.stop(signal.SIGTERM) == 0


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Give a disk of its own inside the block."""
    disk = folder / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=False).returncode:
        pytest.skip("a disk of its own needs the right to mount one")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Leave no room on *disk* inside the block."""
    room = os.statvfs(disk)
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)
    yield
    ballast.unlink()


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    kept: list[str] = []
    with small_disk(tmp_path, "128m") as disk:
        with running(disk) as ledger, ledger.client() as client:
            for again in range(ROUNDS):
                with full(disk):
                    for number in range(100):
                        names_of = [f"A-{again}-{number}-{place}" for place in range(100)]
                        body = lines(changed(order_id, note="x" * 200) for order_id in names_of)
                        answer = client.post("/events", content=body)
                        if answer.status_code == 503:
                            break
                        assert answer.json()["results"] == {"accepted": 100}
                        kept += names_of
                    assert answer.status_code == 503
                    assert answer.headers["retry-after"] == "1"
                    assert (client.get("/readyz").status_code, "full" in client.get("/readyz").text) == (503, True)
                    full_writes = [line for line in client.get("/metrics").text.splitlines() if 'reason="full"' in line]
                    assert float(full_writes[0].split()[1]) > again
                    assert client.get("/healthz").is_success
                    assert not kept or client.get(f"/orders/{kept[0]}").is_success
                assert client.post("/events", content=body).json()["results"] == {"accepted": 100}
                kept += names_of
            wait_for(lambda: client.get("/readyz").is_success)
            said = ledger.errors.read_text()
            assert 1 <= said.count("nothing can be kept now") <= ROUNDS  # an outage, and at most once a minute
            assert "the store is written again, after" in said
            assert ledger.stop(signal.SIGTERM) == 0
        with closing(sqlite3.connect(disk / "ledger.db")) as store:
            found = {order_id for (order_id,) in store.execute("SELECT order_id FROM orders")}
    assert found == set(kept)


def test_a_store_that_another_process_holds(tmp_path: Path) -> None:
    with loaded(tmp_path) as load, running(tmp_path, *load.arguments) as ledger:
        load.to(ledger)
        wait_for(lambda: accepted(tmp_path) > 0)
        for _ in range(ROUNDS):
            failed = load.failed
            with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, timeout=30)) as other:
                other.execute("BEGIN IMMEDIATE")
                wait_for(lambda: load.failed > failed)  # noqa: B023 - at once
                other.execute("ROLLBACK")
            enough = accepted(tmp_path) + 300
            wait_for(lambda: accepted(tmp_path) >= enough)  # noqa: B023 - at once
        load.to(None)
        assert ledger.stop(signal.SIGTERM) == 0


def test_a_store_that_is_read_only_for_a_while(tmp_path: Path) -> None:
    with small_disk(tmp_path, "512m") as disk, loaded(disk) as load:
        store = ("--store", f"sqlite:///{disk / 'ledger.db'}", "--lifecycle", str(LIFECYCLE))
        # In a view of its own the ledger sees the disk read-only, so that the senders may go on writing there.
        view = ("unshare", "--mount", "sh", "-c", f'mount -o remount,ro,bind "{disk}" && exec "$@"', "sh")
        command = [*view, *COMMAND, "ledger", *store, "--env", "test", "--port", "0"]
        for _ in range(ROUNDS):
            with running(disk, *load.arguments) as ledger:
                load.to(ledger)
                enough = accepted(disk) + 300
                wait_for(lambda: accepted(disk) > enough)  # noqa: B023 - at once
                load.to(None)
                ledger.stop(signal.SIGKILL)
            read_only = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            assert read_only.returncode == 2
            assert "cannot be used: " in read_only.stderr
            assert "Traceback" not in read_only.stderr
