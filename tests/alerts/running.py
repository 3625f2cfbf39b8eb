"""A real Alertmanager on loopback, with one webhook that hears what any of its receivers is told."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import httpx
import yaml

from examples.order_pipeline.scenarios.broker.node import free_ports
from tests.sinks.receiver import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STARTING = 60.0
TOLD_WITHIN = 30.0
"""Seconds in which a notification must come, on a busy machine."""
_FASTER = {"15m": "4s", "0s": "0s"}
"""What is waited for before a first notification, shortened."""


class Alertmanager:
    """A started Alertmanager.  heard: what each receiver was told, by its name."""

    def __init__(self, url: str, heard: list[tuple[str, dict[str, Any]]]) -> None:
        self.url = url
        self._heard = heard

    def post(self, labels: dict[str, str], *, over: bool = False) -> None:
        """Tell it of an alert, or that it is over."""
        now = datetime.now(UTC)
        alert = {"labels": labels, "startsAt": now.isoformat()}
        if over:
            alert = {"labels": labels, "endsAt": (now - timedelta(seconds=1)).isoformat()}
        httpx.post(f"{self.url}/api/v2/alerts", json=[alert], trust_env=False, timeout=10).raise_for_status()

    def alerts(self, **labels: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.url}/api/v2/alerts", trust_env=False, timeout=10).raise_for_status().json()
        return [alert for alert in answer if labels.items() <= alert["labels"].items()]

    def states(self, **labels: str) -> dict[tuple[str, str], str]:
        """Return the state of alerts, by name and status."""
        return {
            (alert["labels"]["alertname"], alert["labels"]["status"]): alert["status"]["state"]
            for alert in self.alerts(**labels)
            if alert["status"]["state"] != "unprocessed" or self._settled(labels)
        }

    def state(self, **labels: str) -> str:
        self._settled(labels)
        (alert,) = self.alerts(**labels)
        return str(alert["status"]["state"])

    def _settled(self, labels: dict[str, str]) -> bool:
        deadline = time.monotonic() + TOLD_WITHIN
        while any(alert["status"]["state"] == "unprocessed" for alert in self.alerts(**labels)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return True

    def seen(self, receiver: str, **labels: str) -> list[dict[str, Any]]:
        """Return what *receiver* was told by now of groups that have *labels*."""
        return [
            told for name, told in self._heard if name == receiver and labels.items() <= told["groupLabels"].items()
        ]

    def notified(self, receiver: str, **labels: str) -> list[dict[str, Any]]:
        """Wait until *receiver* is told of a group with *labels*."""
        deadline = time.monotonic() + TOLD_WITHIN
        while not (found := self.seen(receiver, **labels)):
            assert time.monotonic() < deadline, f"{receiver} was not told of {labels}: {self._heard}"
            time.sleep(0.05)
        return found


@contextmanager
def alerting(program: str, config: Path, folder: Path, *, group_wait: str = "1s") -> Iterator[Alertmanager]:
    """Run *program* with *config*, whose receivers become webhooks and whose waits become short.

    group_wait: for what belongs to one notification, in place of 30 s.
    """
    heard: list[tuple[str, dict[str, Any]]] = []
    with serving(_hearing(heard)) as webhook:
        (folder / "config.yaml").write_text(_quick(config.read_text(), webhook, group_wait))
        arguments = [f"--config.file={folder}/config.yaml", f"--storage.path={folder}", "--cluster.listen-address="]
        with started([program, *arguments], folder / "log") as url:
            yield Alertmanager(url, heard)


@contextmanager
def started(command: list[str], log: Path) -> Iterator[str]:
    """Run *command*, a Prometheus or an Alertmanager, on a free port inside the block; gives its URL once it is ready.

    log: where its output goes.
    """
    (port,) = free_ports(1)
    with log.open("wb") as output:
        listening = [*command, f"--web.listen-address=127.0.0.1:{port}"]
        process = subprocess.Popen(listening, stdout=output, stderr=output)
    try:
        _wait_for(f"http://127.0.0.1:{port}", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTING
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/-/ready", trust_env=False, timeout=1).is_success:
                return
        time.sleep(0.05)


def _quick(text: str, webhook: str, group_wait: str) -> str:
    config = yaml.safe_load(text)
    for route in (config["route"], *config["route"]["routes"]):
        if "group_wait" in route:
            route["group_wait"] = _FASTER.get(route["group_wait"], group_wait)
    config["receivers"] = [
        {"name": one["name"], "webhook_configs": [{"url": f"{webhook}/{one['name']}"}]} for one in config["receivers"]
    ]
    return yaml.safe_dump(config)


def _hearing(heard: list[tuple[str, dict[str, Any]]]) -> type[BaseHTTPRequestHandler]:
    class Hearing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append((self.path.removeprefix("/"), json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Hearing
