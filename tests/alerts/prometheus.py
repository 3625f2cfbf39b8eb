"""A real Prometheus on loopback that scrapes a ledger every second and knows our rules, without their waits."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import yaml

from tests.alerts.running import started
from tests.alerts.tools import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHOWN_WITHIN = 60.0
"""Seconds until what is asked for must be there, on a busy machine."""


class Prometheus:
    """A started Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def answer(self, path: str, **parameters: str) -> dict[str, Any]:
        """Return the whole answer of the API."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, trust_env=False, timeout=20)
        assert answer.is_success, (parameters, answer.text)
        return dict(answer.json())

    def ask(self, path: str, **parameters: str) -> Any:
        return self.answer(path, **parameters)["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        return list(self.ask("query", query=expr)["result"])

    def shows(self, expr: str) -> list[dict[str, Any]]:
        """Wait until *expr* has a result, and return it."""
        deadline = time.monotonic() + SHOWN_WITHIN
        while not (found := self.query(expr)):
            assert time.monotonic() < deadline, f"nothing for {expr}: {self.query('up')}"
            time.sleep(0.2)
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Wait until every rule was evaluated, and return them all."""
        deadline = time.monotonic() + SHOWN_WITHIN
        while True:
            found = [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]
            if found and all(rule["health"] != "unknown" for rule in found):
                return found
            assert time.monotonic() < deadline
            time.sleep(0.2)


@contextmanager
def prometheus(program: str, folder: Path, targets: dict[str, str], alertmanager: str) -> Iterator[Prometheus]:
    """Run *program* on *targets*, addresses by job; its alerts go to *alertmanager*, an address."""
    for file in RULES:
        (folder / file.name).write_text(re.sub(r"\n +(?:for|keep_firing_for): .+", "", file.read_text()))
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / file.name) for file in RULES],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in targets.items()
        ],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    arguments = [
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={folder}/data",
        "--rules.alert.resend-delay=1s",  # the first is sent before it knows of the Alertmanager
    ]
    with started([program, *arguments], folder / "log") as url:
        yield Prometheus(url)
