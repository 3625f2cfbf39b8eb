"""A real ledger process under load: how long a lookup and a timer take while it ingests, and what memory it needs.

A sender of its own process posts OTLP requests one after the other, as fast as they are answered; lookups and scrapes
come from here.  On few cores all three share them, so the figures say what such a machine gives, not the ledger alone.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.sharedctypes
import random
import shutil
import statistics
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from otel_orders import names
from otel_orders.ledger.metrics import LedgerCollector
from otel_orders.ledger.store.sqlite import SqliteStore
from otel_orders.lifecycle import load_lifecycle
from otel_orders.server.serve import bound, listen, serve, url_of
from tests.benchmarks.harness import Figure, benchmark
from tests.benchmarks.ledger_ingest import KEPT_DAYS, LIFECYCLE, Orders, existing, filled, plan, size
from tests.benchmarks.ledger_otlp import requests
from tests.integration.processes import running

if TYPE_CHECKING:
    from collections.abc import Iterator


SECOND = 1_000_000_000
LOOKUPS = 2_100
WARM = 100
"""Look-ups before those that are counted."""
SCRAPES = 50
BATCHES = 60
"""Of 2,000 events each, that are sent while lookups are timed; again from the start when they have all been sent."""
STUCK_AT_ONCE = 200
"""Orders whose limit is passed while the ledger ingests."""
ELSEWHERE = "PRICE_REJECTED"
"""A status that no order of the load comes to."""
ENV = "bench"


def _open_orders() -> tuple[Orders, Path]:
    """Return the orders, and the store that holds them."""
    orders = existing()
    return orders, filled(orders)


@benchmark("ledger/scrape", budget=10)
def scrape(name: str, budget: float) -> Figure:
    """Measure one page of metrics over many open orders."""
    _, kept = _open_orders()
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        store = SqliteStore(shutil.copy(kept, folder))
        collector = LedgerCollector(store, plan())
        collector.page()
        taken = [_milliseconds(collector.page) for _ in range(SCRAPES)]
        store.close()
    return _figure(name, statistics.median(taken), f"ms, {size():,} open orders", budget, "time of one page, median")


@benchmark("lookup/p99", budget=5)
def lookup(name: str, budget: float) -> Figure:
    """Measure a story by HTTP while a sender keeps the ledger busy; beside it, in turns, the floor of the machine.

    The floor is the same server in a process of its own that answers each request with one and the same story.
    """
    with _loaded() as load:
        asked = random.Random(1).choices(load.ids, k=LOOKUPS)
        with _bare(load.client.get(f"/orders/{asked[0]}").json()) as bare:
            pairs = [(_asked(load.client, order_id), _asked(bare, order_id)) for order_id in asked][WARM:]
        rate = load.rate()
    taken, floor = zip(*pairs, strict=True)
    p99, least = (statistics.quantiles(column, n=100)[98] for column in (taken, floor))
    medians = f"medians {statistics.median(taken):.1f} and {statistics.median(floor):.1f} ms"
    return Figure(
        name=name,
        value=p99,
        unit=f"ms, {size():,} open orders",
        peer=least,
        ratio=p99 / least,
        budget=budget,
        holds=p99 <= budget,
        counts=f"time at the client, {rate:,.0f} events/s ingested meanwhile; peer: a constant; {medians}",
    )


@contextmanager
def _bare(story: object) -> Iterator[httpx.Client]:
    """Serve *story* for every order, as the ledger serves: by its server, in a thread, from a process of its own."""

    def constant(_request: object) -> JSONResponse:
        return JSONResponse(story)

    app = Starlette(routes=[Route("/orders/{order_id:path}", constant)])
    with bound("127.0.0.1", 0) as listener:
        listen(listener)
        server = multiprocessing.get_context("fork").Process(target=serve, args=(app, listener), daemon=True)
        server.start()
        with httpx.Client(base_url=url_of(listener), trust_env=False, timeout=20) as client:
            yield client
        server.terminate()
        server.join()


def _asked(client: httpx.Client, order_id: str) -> float:
    """Return how long *client* waits for one story, in ms."""
    return _milliseconds(lambda: client.get(f"/orders/{order_id}").raise_for_status())


@benchmark("ledger/sweep_lag", budget=5)
def sweep_lag(name: str, budget: float) -> Figure:
    """Measure from the deadline of many orders to the moment when the last of them is counted stuck, under load."""
    with _loaded() as load:
        limit = int(load_lifecycle(LIFECYCLE).statuses[ELSEWHERE].stuck_after or 0)
        deadline = time.time_ns() + 4 * SECOND
        load.client.post("/events", content=_entered_elsewhere(deadline - limit)).raise_for_status()
        give_up = time.monotonic() + 60
        while load.stuck() < STUCK_AT_ONCE:
            if time.monotonic() > give_up:
                raise RuntimeError("the orders were never found stuck")
        lag, rate = (time.time_ns() - deadline) / SECOND, load.rate()
    unit = f"s, {STUCK_AT_ONCE} orders at once of {size():,}"
    return _figure(
        name, lag, unit, budget, f"time to the last one in a scrape, {rate:,.0f} events/s ingested meanwhile"
    )


@benchmark("ledger/memory", budget=1.25)
def memory(name: str, budget: float) -> Figure:
    """Measure what a ledger's own memory grows by while it takes new orders: its last third over its first."""
    samples: list[int] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder), "--env", ENV) as ledger,
        ledger.client() as client,
    ):
        for received in Orders(size(), time.time_ns()).so_far():
            for body in requests(received):
                _post(client, body)
            samples.append(_anonymous_kib(ledger.process.pid))
    third = len(samples) // 3
    first, last = max(samples[:third]), max(samples[-third:])
    return Figure(
        name=name,
        value=last / 1024,
        unit=f"MiB after {size():,} new orders",
        peer=first / 1024,
        ratio=last / first,
        budget=budget,
        holds=last / first <= budget,
        counts="anonymous memory of the ledger's process, the most in its last third over the most in its first",
    )


class _Load(NamedTuple):
    """A ledger that is kept busy.  sent: how many events its sender has sent."""

    client: httpx.Client
    ids: list[str]
    sent: multiprocessing.sharedctypes.Synchronized[int]
    began: float

    def rate(self) -> float:
        """Return how many events a second were taken in since the load began."""
        return self.sent.value / (time.monotonic() - self.began)

    def stuck(self) -> float:
        """Return how many orders a scrape shows stuck where none of the load's are."""
        page = self.client.get("/metrics").text
        samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
        return sum(s.value for s in samples if (s.name, s.labels.get("status")) == (names.STUCK, ELSEWHERE))


@contextmanager
def _loaded() -> Iterator[_Load]:
    orders, kept = _open_orders()
    orders.now = time.time_ns()
    batches = orders.next(min(BATCHES, size() // 2_000))
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        shutil.copy(kept, Path(folder) / "ledger.db")
        retention = f"{KEPT_DAYS}d"
        with running(Path(folder), "--env", ENV, "--retention", retention) as ledger, ledger.client() as client:
            _wait_until_swept(client)
            sent = multiprocessing.Value("q", 0)
            bodies = [(body, 500) for received in batches for body in requests(received)]
            sender = multiprocessing.get_context("fork").Process(
                target=_send, args=(ledger.url, bodies, sent), daemon=True
            )
            sender.start()
            yield _Load(
                client, sorted({one.order_id for received in batches for one in received}), sent, time.monotonic()
            )
            sender.terminate()
            sender.join()


def _send(url: str, bodies: list[tuple[bytes, int]], sent: multiprocessing.sharedctypes.Synchronized[int]) -> None:
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        while True:
            for body, count in bodies:
                _post(client, body)
                sent.value += count


def _post(client: httpx.Client, body: bytes) -> None:
    headers = {"content-type": "application/x-protobuf"}
    while (answer := client.post("/v1/logs", content=body, headers=headers)).status_code in (429, 503):
        time.sleep(float(answer.headers.get("retry-after", 1)))
    answer.raise_for_status()


def _wait_until_swept(client: httpx.Client) -> None:
    """Wait until the timers that passed while the store lay there have been looked at."""
    seen, quiet_since = "", time.monotonic()
    give_up = quiet_since + 300
    while time.monotonic() - quiet_since < 3:
        if time.monotonic() > give_up:
            raise RuntimeError("the ledger does not come to rest")
        stuck = "\n".join(
            line for line in client.get("/metrics").text.splitlines() if line.startswith(names.STUCK + "{")
        )
        if stuck != seen:
            seen, quiet_since = stuck, time.monotonic()
        time.sleep(0.2)


def _entered_elsewhere(at: int) -> bytes:
    """Return the events of new orders that come ELSEWHERE at *at* (unix ns), as JSON lines."""
    return b"\n".join(
        msgspec.json.encode(
            {
                "event_type": names.STATUS_CHANGED,
                "order_id": f"stuck-{at}-{number}",
                "to_status": ELSEWHERE,
                "service": "shop-api",
                "occurred_at": at,
            }
        )
        for number in range(STUCK_AT_ONCE)
    )


def _anonymous_kib(process_id: int) -> int:
    status = Path(f"/proc/{process_id}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:"))


def _milliseconds(run: object) -> float:
    before = time.perf_counter()
    run()  # type: ignore[operator]
    return (time.perf_counter() - before) * 1e3


def _figure(name: str, value: float, unit: str, budget: float, counts: str) -> Figure:
    return Figure(name=name, value=value, unit=unit, budget=budget, holds=value <= budget, counts=counts)
