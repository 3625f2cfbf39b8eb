"""The demo as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from otel_orders import names
from tests.promised import label_names, promised, scraped

if TYPE_CHECKING:
    from examples.order_pipeline.scenarios.broker import Broker

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.no_cover]

ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, "-m", "examples.order_pipeline.scenarios.demo"]
TROUBLE = {names.MESSAGES_REDELIVERED, names.MESSAGES_FROM_THE_FUTURE, names.SINK_FAILURES}
"""Metrics of trouble that the demo does not have: they are there, and count nothing."""
DEADLINE = 150
"""Seconds; the demo itself needs less than 60, on a machine that does nothing else."""


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder), **more}


def test_the_demo_shows_the_truth_and_leaves_nothing(broker: Broker, tmp_path: Path) -> None:
    environ = environment(tmp_path, AMQP_URL=broker.amqp_url)
    demo = subprocess.run(DEMO, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=DEADLINE, check=False)
    shown = demo.stdout
    assert demo.returncode == 0, shown + demo.stderr
    assert "All 18 orders are accounted for, and the stuck one was found." in shown
    assert re.search(r"SUBMITTED\s+│ mes\s+│\s+1 │ .* │\s+12 s │\s+1 │", shown)
    assert re.search(r"CLOSED\s+│ -\s+│\s+16 │", shown)
    assert re.search(r"The stuck one: order \w+, stuck in SUBMITTED", shown)
    assert re.search(r"A good one: order \w+ of acme, in CLOSED", shown)
    assert len(re.findall(r"│ [0-9a-f]{32} +│", shown)) == 9 + 3
    assert re.search(r"PACKAGING\s+│ legacy-mes\s+│ .* │ \(cannot trace\)", shown)
    assert re.search(r"acme asks about p-[0-9a-f]{20}; `otel-orders resolve` says it is [0-9a-f]{12}\.", shown)
    assert list(tmp_path.iterdir()) == []


def test_a_demo_that_is_kept_runs_until_it_is_interrupted(tmp_path: Path) -> None:
    environ = environment(tmp_path, KEEP="1", PYTHONUNBUFFERED="1")
    output = tmp_path / "output"
    with output.open("w") as stdout, subprocess.Popen(DEMO, cwd=ROOT, env=environ, stdout=stdout) as demo:
        shown = wait_for(output, "Running until Ctrl-C", demo)
        metrics = re.findall(r"http://127\.0\.0\.1:\d+/metrics", shown)
        assert len(metrics) == 7
        of_services = [metric for url in metrics[1:] for metric in scraped(url)]
        assert label_names(of_services) == {name: labels for name, labels in promised().items() if name not in TROUBLE}
        assert {f"{metric.name}_total" for metric in of_services} >= TROUBLE
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0
    output.unlink()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(httpx.TransportError):
        httpx.get(metrics[0], trust_env=False)


def wait_for(output: Path, text: str, demo: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + DEADLINE
    while text not in (shown := output.read_text()):
        assert demo.poll() is None, shown
        assert time.monotonic() < deadline, shown
        time.sleep(0.1)
    return shown
