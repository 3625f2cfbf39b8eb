"""A flood of large requests: whoever is too many is told to come back, memory stays bounded, and the ledger answers."""

from __future__ import annotations

import gzip
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import httpx
import pytest

from tests.integration.processes import Running, running
from tests.ledger import senders
from tests.ledger.senders import changed

if TYPE_CHECKING:
    from typing import Self

MEGABYTE = 1 << 20
BOUND = 768 * MEGABYTE
"""What the README says that a ledger takes under any load of events."""
FLOOD_SECONDS = 8.0
SENDERS = 24
RECORDS = 20_000
PATIENCE = 300.0
"""Seconds until a sender has waited too long: a slow machine may take its time, an answer that never comes may not."""
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


def peak_memory(ledger: Running) -> int:
    """Return the most memory that *ledger* ever had, in bytes."""
    status = Path(f"/proc/{ledger.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


class Flood:
    """Sends large gzip bodies over both transports as fast as it can, and counts the answers."""

    def __init__(self, ledger: Running) -> None:
        self.answers: Counter[str] = Counter()
        self.told_when = True
        self.slowest = 0.0
        self._ledger = ledger
        self._until = time.monotonic() + FLOOD_SECONDS
        records = [changed(f"A-{place}", padding="x" * 120, event_id=f"e{place}") for place in range(RECORDS)]
        self._lines = gzip.compress(senders.lines(records), 1)
        self._otlp = gzip.compress(senders.logs(records).SerializeToString(), 1)
        self._threads = [
            threading.Thread(target=self._over_http if place % 3 else self._over_grpc, args=[place])
            for place in range(SENDERS)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    @property
    def lasts(self) -> bool:
        return time.monotonic() < self._until

    def _over_http(self, place: int) -> None:
        path, media_type, body = (
            ("/events", "", self._lines) if place % 2 else ("/v1/logs", "application/x-protobuf", self._otlp)
        )
        headers = {"content-encoding": "gzip", "content-type": media_type}
        with httpx.Client(base_url=self._ledger.url, trust_env=False, timeout=PATIENCE) as client:
            while self.lasts:
                answer = client.post(path, content=body, headers=headers)
                self.slowest = max(self.slowest, answer.elapsed.total_seconds())
                self.answers[str(answer.status_code)] += 1
                self.told_when &= answer.is_success or answer.headers.get("retry-after") == "1"

    def _over_grpc(self, _place: int) -> None:
        with grpc.insecure_channel(self._ledger.grpc.removeprefix("http://")) as channel:
            export = channel.unary_unary(LOGS)
            while self.lasts:
                begun = time.monotonic()
                try:
                    export(self._otlp, timeout=PATIENCE)
                    self.answers["OK"] += 1
                except grpc.RpcError as error:
                    self.answers[error.code().name] += 1
                    self.told_when &= "google.rpc.retryinfo-bin" in dict(error.trailing_metadata())
                self.slowest = max(self.slowest, time.monotonic() - begun)


@pytest.mark.no_cover
@pytest.mark.slow
def test_a_flood_is_told_to_come_back_within_bounded_memory_while_the_ledger_answers(tmp_path: Path) -> None:
    slowest = 0.0
    with running(tmp_path) as ledger, ledger.client() as client:
        with Flood(ledger) as flood:
            while flood.lasts:
                assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
                slowest = max(slowest, client.get("/healthz").elapsed.total_seconds())
        peak = peak_memory(ledger)
        page = client.get("/metrics").text
        assert ledger.stop(signal.SIGTERM) == 0
    waited = f"health in {slowest:.2f} s, answers in {flood.slowest:.2f} s"
    sys.stdout.write(f"{dict(flood.answers)}: at most {peak / MEGABYTE:.0f} MB, {waited}\n")
    assert set(flood.answers) <= {"200", "429", "503", "OK", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
    assert flood.answers["200"] + flood.answers["OK"] > 0
    assert flood.answers["429"] > 0
    assert flood.answers["RESOURCE_EXHAUSTED"] > 0
    assert flood.told_when
    assert peak < BOUND
    assert slowest < 5
    assert f'otel_orders_ledger_events_total{{result="accepted"}} {RECORDS:.1f}' in page
