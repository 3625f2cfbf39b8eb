"""Senders of all kinds that never give up: each sends again until it has a success, and some even then."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections import defaultdict
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import httpx

import otel_orders
from otel_orders import names
from otel_orders.errors import ConfigurationError, StoreUnavailableError
from otel_orders.ledger import ingest
from otel_orders.ledger.reading import Reading
from otel_orders.ledger.service import open_store
from otel_orders.ledger.store import Access
from tests.ledger import audit, senders
from tests.ledger.senders import ENV, SECOND, walk
from tests.ledger.strategies import LIFECYCLE, PLAN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from otel_orders.ledger.kept import Kept
    from tests.integration.processes import Running

WAY = ("INITIATED", "FILE_UPLOADED", "SUBMITTED", "PRICE_CALCULATED", "MANUFACTURING_APPROVED", "CANCELLED")
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
PAUSE = 0.05
"""Seconds before something is sent again."""
Records = list[dict[str, Any]]


class Load:
    """What is sent, by every way in, to whatever ledger runs at the moment."""

    def __init__(self, folder: Path, seed: int = 7, store: str | None = None) -> None:
        self.store = store or f"sqlite:///{folder / 'ledger.db'}"
        self.followed = folder / "legacy.jsonl"
        self.outbox = folder / "shop.db"
        self.sent: Records = []
        self.acknowledged = 0
        self.failed = 0
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self._ledger: Running | None = None
        self._ending = threading.Event()
        self._number = 0
        self._rotated = 0
        with closing(sqlite3.connect(self.outbox)) as shop:
            shop.execute(otel_orders.OUTBOX_SCHEMA["sqlite"])
        self._client = httpx.Client(timeout=30, trust_env=False)
        ways: tuple[Callable[[Records], None], ...]
        ways = (self._post, self._otlp_http, self._otlp_grpc, self._write, self._commit)
        self._given_up = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=[way]) for way in ways]

    @property
    def arguments(self) -> tuple[str, ...]:
        """What a ledger needs to be told to take part."""
        return ("--follow", str(self.followed), "--follow", f"sqlite:///{self.outbox}")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send inside the block; at its end all that was begun has been acknowledged."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._ending.set()
            for thread in self._threads:
                thread.join()
            self._client.close()

    def give_up(self) -> None:
        """Let the senders end without an answer: the test has failed."""
        self._given_up.set()

    def to(self, ledger: Running | None) -> None:
        """Send to *ledger* from now on."""
        self._ledger = ledger

    def rotate(self) -> None:
        """Rotate the followed file away."""
        with self._lock:
            self._rotated += 1
            self.followed.rename(self.followed.with_name(f"{self.followed.name}.{self._rotated}"))

    def _send(self, way: Callable[[Records], None]) -> None:
        while not self._ending.is_set():
            batch = self._batch()
            again = self._rng.random() < 0.2  # a sender that repeats also what was taken
            for _ in range(1 + again):
                self._persistently(way, batch)
            with self._lock:
                self.acknowledged += len(batch)

    def _persistently(self, way: Callable[[Records], None], batch: Records) -> None:
        while True:
            try:
                return way(batch)
            except (httpx.HTTPError, grpc.RpcError, ConnectionError):
                if self._given_up.is_set():
                    return None
                self.failed += 1
                time.sleep(PAUSE)

    def _batch(self) -> Records:
        with self._lock:
            orders = [f"A-{self._number + place}" for place in range(self._rng.randrange(1, 8))]
            self._number += len(orders)
            start = time.time_ns() - 300 * SECOND
            batch = [step for order_id in orders for step in walk(order_id, *WAY, start=start, partner_id="acme")]
            self._rng.shuffle(batch)
            self.sent += batch
        return batch

    def _url(self) -> str:
        if self._ledger is None:
            raise ConnectionError("none runs")
        return self._ledger.url

    def _post(self, batch: Records) -> None:
        self._client.post(f"{self._url()}/events", content=senders.lines(batch)).raise_for_status()

    def _otlp_http(self, batch: Records) -> None:
        body = senders.logs(batch).SerializeToString()
        headers = {"content-type": "application/x-protobuf"}
        answer = self._client.post(f"{self._url()}/v1/logs", content=body, headers=headers)
        answer.raise_for_status()
        assert answer.content == b""  # nothing was refused

    def _otlp_grpc(self, batch: Records) -> None:
        self._url()
        assert self._ledger is not None
        with grpc.insecure_channel(self._ledger.grpc.removeprefix("http://")) as channel:
            answer = channel.unary_unary(LOGS)(senders.logs(batch).SerializeToString(), timeout=30)
        assert answer == b""

    def _write(self, batch: Records) -> None:
        time.sleep(4 * PAUSE)  # a file takes anything at once, and it has to be read again
        with self._lock, self.followed.open("ab") as file:
            file.write(senders.lines(batch))

    def _commit(self, batch: Records) -> None:
        time.sleep(4 * PAUSE)
        lines = senders.lines(batch).decode().splitlines()
        with closing(sqlite3.connect(self.outbox, timeout=30)) as shop, shop:
            shop.executemany("INSERT INTO otel_orders_outbox (event) VALUES (?)", ((line,) for line in lines))

    def check(self) -> None:
        """Check that the store holds what was sent, each event once, and that all totals are what the events say."""
        expected: dict[str, dict[bytes, Kept]] = defaultdict(dict)
        reading = Reading(LIFECYCLE, ENV, time.time_ns())
        ingest.lines(senders.lines(self.sent), reading)
        for received in reading.received:
            expected[received.order_id][received.event.id] = received.event
        with closing(open_store(self.store, Access.READ)) as store:
            audit.check(store, {order_id: list(events.values()) for order_id, events in expected.items()}, PLAN)
            assert store.totals()[names.LEDGER_EVENTS, "accepted"] == len(self.sent)
            assert not store.totals().get((names.LEDGER_EVENTS, "rejected"))


def accepted(folder: Path) -> int:
    """Return how many events the store in *folder* has."""
    return accepted_in(f"sqlite:///{folder / 'ledger.db'}")


def accepted_in(store: str) -> int:
    """Return how many events the store at this URL has."""
    try:
        with closing(open_store(store, Access.READ)) as opened:
            return opened.totals().get((names.LEDGER_EVENTS, "accepted"), 0)
    except (ConfigurationError, StoreUnavailableError):  # it is not there yet, or not at present
        return 0
