"""The Collector's own metrics have the names and labels by which rules ask for them."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import httpx

from tests.alerts.tools import ALERTS, rules
from tests.collector.processes import AGENT, collecting

if TYPE_CHECKING:
    from pathlib import Path

SHOWN_WITHIN = 30.0
LOG = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "an ordinary line"}}]}]}]}
SPAN = {"traceId": "1" * 32, "spanId": "2" * 16, "name": "x", "kind": 1}
TRACE = {"resourceSpans": [{"scopeSpans": [{"spans": [SPAN | {"startTimeUnixNano": "1", "endTimeUnixNano": "2"}]}]}]}
ONLY_AFTER_A_LOSS = re.compile("otelcol_exporter_(enqueue|send)_failed_")
"""Such series appear with the first loss: see the documentation of exporterhelper."""


def asked() -> set[str]:
    """What the rules ask for, as a pattern of the whole name."""
    exprs = " ".join(rule["expr"] for rule in rules(ALERTS / "rules/collector.yaml", ALERTS / "rules/recording.yaml"))
    scraped = re.sub(r"\w+:[\w:]+", "", exprs)  # what is recorded has colons in its name
    return set(re.findall(r"otelcol_[a-z_()?|]+", scraped))


def test_the_collector_shows_what_rules_ask_for(binary: Path, tmp_path: Path) -> None:
    with collecting(binary, AGENT, tmp_path) as collector:
        for path, body in (("logs", LOG), ("traces", TRACE)):
            httpx.post(f"{collector.url}/v1/{path}", json=body, trust_env=False).raise_for_status()
        wanted = {pattern for pattern in asked() if not ONLY_AFTER_A_LOSS.match(pattern)}
        deadline = time.monotonic() + SHOWN_WITHIN
        while missing := {pattern for pattern in wanted if not shown(pattern, collector._metrics)}:
            assert time.monotonic() < deadline, missing
            time.sleep(0.2)
        assert shown("otelcol_exporter_queue_size", collector._metrics, 'exporter="otlp_http/ledger"')
        assert shown("otelcol_receiver_refused_spans", collector._metrics, 'receiver="otlp"')


def shown(pattern: str, url: str, label: str = "") -> bool:
    page = httpx.get(url, trust_env=False, timeout=10).raise_for_status().text
    return any(re.match(rf"{pattern}[ {{].*{label}", line) for line in page.splitlines())
