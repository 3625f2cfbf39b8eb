"""Replicas on one PostgreSQL, as processes: one may be killed, and all show the same."""

from __future__ import annotations

import random
import signal
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from otel_orders import names
from tests.integration.processes import LIFECYCLE, Running, running, started
from tests.ledger import senders
from tests.ledger.senders import SECOND, changed, walk
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.postgres import Postgres

WAY = ("INITIATED", "FILE_UPLOADED", "SUBMITTED", "PRICE_CALCULATED", "MANUFACTURING_APPROVED", "CANCELLED")
ORDERS = 600
DAY = 86_400 * SECOND
OWN = ("otel_orders_ledger_", names.SLA_AT_RISK)
"""What depends on the replica, on retries, or on the moment of asking."""

Records = list[dict[str, Any]]


def replica(folder: Path, url: str, *arguments: str) -> AbstractContextManager[Running]:
    return started(folder, "ledger", "--store", url, "--lifecycle", str(LIFECYCLE), "--env", "test", *arguments)


def shown(client: httpx.Client) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What /metrics says about orders."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if not sample.name.startswith(OWN)
    }


def event_results(client: httpx.Client) -> dict[str, float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [one for family in families for one in family.samples if one.name == names.LEDGER_EVENTS]
    return {one.labels["result"]: one.value for one in samples if one.value}


class Sender(threading.Thread):
    """Sends *batches* one after the other, each until it is acknowledged, and stops when the replica is gone."""

    def __init__(self, url: str, batches: list[Records]) -> None:
        super().__init__()
        self._url = url
        self._batches = batches
        self.acknowledged = 0

    def run(self) -> None:
        with httpx.Client(timeout=20, trust_env=False) as client:
            for batch in self._batches:
                try:
                    while not client.post(self._url + "/events", content=senders.lines(batch)).is_success:
                        time.sleep(0.01)
                except httpx.TransportError:
                    return
                self.acknowledged += 1


def in_batches(records: Records, size: int = 12) -> list[Records]:
    return [records[at : at + size] for at in range(0, len(records), size)]


@pytest.mark.no_cover
@pytest.mark.slow
def test_two_replicas_are_sent_everything_twice_one_is_killed_and_all_show_the_truth(
    tmp_path: Path, postgres_url: str
) -> None:
    rng, start = random.Random(7), time.time_ns() - 200 * SECOND
    both = [
        step for place in range(ORDERS) for step in walk(f"A-{place}", *WAY, start=start + place, partner_id="acme")
    ]
    only_one = [step for place in range(ORDERS) for step in walk(f"B-{place}", *WAY[:3], start=start + place)]
    with replica(tmp_path, postgres_url) as survivor, survivor.client() as client:
        with replica(tmp_path, postgres_url) as killed:
            sending = [Sender(survivor.url, in_batches(rng.sample(both * 2, len(both) * 2)))]
            # What only the other one gets stands between what both get.
            mixed = in_batches(rng.sample(both * 2 + only_one, len(both) * 2 + len(only_one)))
            sending.append(Sender(killed.url, mixed))
            for sender in sending:
                sender.start()
            wait_for(lambda: sending[1].acknowledged > len(mixed) // 4)
            assert killed.stop(signal.SIGKILL) == -signal.SIGKILL
            sending[1].join()
        assert len(mixed) // 4 < sending[1].acknowledged < len(mixed)
        rest = [Sender(survivor.url, mixed[sending[1].acknowledged :])]  # a balancer sends it to who is there
        rest[0].start()
        for sender in (*sending, *rest):
            sender.join()
        with replica(tmp_path, postgres_url) as newcomer, newcomer.client() as other:
            truth = the_truth(tmp_path, [*both, *only_one])
            assert shown(client) == truth
            assert shown(other) == truth
            assert event_results(client)["accepted"] == len(both) + len(only_one)
            assert event_results(client) == event_results(other)


def the_truth(folder: Path, records: Records) -> dict[Any, float]:
    """What a ledger shows that got *records* once, in a file of its own, undisturbed."""
    undisturbed = folder / "undisturbed"
    undisturbed.mkdir()
    with running(undisturbed) as ledger, ledger.client() as client:
        assert client.post("/events", content=senders.lines(records)).is_success
        return shown(client)


@pytest.mark.no_cover
@pytest.mark.slow
def test_a_killed_sweeper_is_replaced_within_10_seconds(tmp_path: Path, postgres_url: str) -> None:
    with ExitStack() as stack:
        replicas = [stack.enter_context(replica(tmp_path, postgres_url)) for _ in range(2)]
        client = stack.enter_context(replicas[1].client())
        # The one that came first sweeps: the other one finds the lease taken.
        in_time = time.time_ns() - DAY + 12 * SECOND
        assert client.post("/events", content=senders.lines([changed("A-1", occurred_at=in_time)])).is_success
        replicas[0].stop(signal.SIGKILL)
        killed = time.monotonic()
        late = changed("A-2", occurred_at=time.time_ns() - 2 * DAY)
        assert client.post("/events", content=senders.lines([late])).is_success
        stuck = (names.STUCK, frozenset({("status", "INITIATED")}))
        wait_for(lambda: shown(client)[stuck] >= 1)
        assert time.monotonic() - killed < 10


def test_a_server_that_is_away_is_answered_for_and_comes_back(tmp_path: Path, private_postgres: Postgres) -> None:
    with private_postgres.new() as url, replica(tmp_path, url) as ledger, ledger.client() as client:
        assert client.post("/events", content=senders.lines([changed("A-1")])).is_success
        private_postgres.stop()
        refused = client.post("/events", content=senders.lines([changed("A-2")]))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert client.get("/healthz").is_success
        assert client.get("/readyz").status_code == client.get("/metrics").status_code == 503
        private_postgres.start()
        assert client.post("/events", content=senders.lines([changed("A-2")])).is_success
        assert client.get("/readyz").is_success
        assert {client.get(f"/orders/A-{place}").status_code for place in (1, 2)} == {200}
        assert ledger.stop(signal.SIGTERM) == 0


def test_it_says_in_one_line_what_is_wrong_with_a_store(tmp_path: Path) -> None:
    url = "postgresql://me:s3cr3t@127.0.0.1:1/orders"
    with pytest.raises(AssertionError) as caught, replica(tmp_path, url):
        pass
    said = str(caught.value).partition("it did not start: ")[2]
    assert said.startswith("otel-orders: the store postgresql://me@127.0.0.1:1/orders cannot be used: ")
    assert said.count("\n") == 1
    assert "s3cr3t" not in said
