"""Event records and the disk that they wait on: the queue is full before its disk is, and nothing is given up."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.collector.gate import Gate, accepted, gate
from tests.collector.processes import AGENT, Collector, collecting
from tests.conftest import unavailable
from tests.integration.processes import Running, running
from tests.ledger import senders
from tests.ledger.senders import changed
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEPT = 200_000
"""Bytes of events that may wait."""
QUEUE = "exporter_otlp_http_ledger_logs"


@contextmanager
def volume(folder: Path, size: int) -> Iterator[Path]:
    """Make a disk of *size* bytes, inside the block."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        unavailable("no file system can be mounted: it takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def waiting(binary: Path, folder: Path, disk: Path) -> Iterator[tuple[Collector, Running, Gate]]:
    """Run an agent whose queue is on *disk* and whose ledger is away."""
    environ = {"OTELCOL_EVENTS": str(disk), "OTELCOL_EVENTS_KEPT": str(KEPT)}
    with running(folder) as ledger, gate(ledger.url) as way:
        way.close()
        with collecting(binary, AGENT, folder, OTELCOL_LEDGER=way.url, **environ) as agent:
            yield agent, ledger, way


def sent_until_full(agent: Collector, records: int, padding: int) -> int:
    """Send requests until one is not taken, and return how many records were."""
    taken = 0
    with httpx.Client(base_url=agent.url, trust_env=False, timeout=2) as client:
        while True:
            fields: dict[str, Any] = {f"note_{n}": "x" * min(padding - n, 200) for n in range(0, padding, 200)}
            batch = senders.logs([changed(f"A-{taken + n}", event_id=f"{taken + n}", **fields) for n in range(records)])
            headers = {"content-type": "application/x-protobuf"}
            try:
                answer = client.post("/v1/logs", content=batch.SerializeToString(), headers=headers)
            except httpx.ReadTimeout:
                return taken
            if not answer.is_success:
                assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
                return taken
            taken += records


# As many bytes of each page of the queue's file as can be wasted: small values, and those that just pass half a page.
@pytest.mark.parametrize(("records", "padding"), [(1, 100), (1, 1900)], ids=str)
def test_the_queue_is_full_before_a_disk_of_three_times_its_size_and_restarts_lose_nothing(
    binary: Path, tmp_path: Path, records: int, padding: int
) -> None:
    with (
        volume(tmp_path / "disk", 3 * KEPT) as disk,
        waiting(binary, tmp_path, disk) as (agent, ledger, way),
    ):
        taken = sent_until_full(agent, records, padding)
        assert taken > 0
        for _ in range(2):
            agent.kill()
            agent.restart()
        way.open()
        wait_for(lambda: accepted(ledger) >= taken, seconds=120)
        assert "no space left" not in agent.log


def test_a_queue_whose_space_is_reserved_loses_nothing_on_a_disk_that_others_filled(
    binary: Path, tmp_path: Path
) -> None:
    with (
        volume(tmp_path / "disk", 20 * KEPT) as disk,
        waiting(binary, tmp_path, disk) as (agent, ledger, way),
    ):
        agent.stop()
        subprocess.run(["fallocate", "--length", str(3 * KEPT), str(disk / QUEUE)], check=True)
        with pytest.raises(OSError, match="No space left"):
            (disk / "the-rest").write_bytes(b"\0" * 20 * KEPT)
        agent.restart()
        taken = sent_until_full(agent, 10, 100)
        assert taken > KEPT // 1000
        agent.kill()
        agent.restart()
        way.open()
        wait_for(lambda: accepted(ledger) >= taken, seconds=120)
