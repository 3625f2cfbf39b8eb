"""A Collector as a process of its own, with ports and a state folder of its own."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from prometheus_client.parser import text_string_to_metric_families

from examples.order_pipeline.scenarios.broker.node import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

COLLECTOR = Path(__file__).parents[2] / "collector"
AGENT = ("base", "agent")
BALANCER = (*AGENT, "balancer")
LINES = (*AGENT, "json_lines")
GATEWAY = ("base", "gateway", "sampling", "redaction", "known_keys", "otlp_traces")
GATES = "processor.tailsamplingprocessor.recordpolicy,stanza.synchronousLogEmitter"
STARTING = 60.0
"""Seconds in which a Collector must be up."""
NOWHERE = "http://127.0.0.1:9"
"""An address where nobody takes anything."""


def command(binary: Path, configs: tuple[str, ...], verb: str = "") -> list[str]:
    """Return the command that runs *configs* (names of files in collector/, or paths) in their order."""
    files = [str(COLLECTOR / f"{one}.yaml") if "/" not in one else one for one in configs]
    options = [part for file in files for part in ("--config", file)]
    return [str(binary), *filter(None, [verb]), *options, f"--feature-gates={GATES}"]


class Collector:
    """A started Collector.  url: its OTLP/HTTP endpoint.  grpc: host and port of the other one."""

    def __init__(self, binary: Path, configs: tuple[str, ...], folder: Path, environ: dict[str, str]) -> None:
        self.folder = folder
        self._command = command(binary, configs)
        for attempts_left in (2, 1, 0):
            self._environ = settings(folder) | self._choose_ports() | environ
            try:
                self.process = self._started()
                break
            except AssertionError:
                if not attempts_left or "address already in use" not in self.log:  # somebody else took a port
                    raise
                (folder / "collector.log").unlink()

    def _choose_ports(self) -> dict[str, str]:
        http, grpc, health, metrics = free_ports(4)
        self.url, self.grpc = f"http://127.0.0.1:{http}", f"127.0.0.1:{grpc}"
        self._health, self._metrics = f"http://127.0.0.1:{health}/", f"http://127.0.0.1:{metrics}/metrics"
        return {
            "OTELCOL_HTTP": f"127.0.0.1:{http}",
            "OTELCOL_GRPC": self.grpc,
            "OTELCOL_HEALTH": f"127.0.0.1:{health}",
            "OTELCOL_METRICS_PORT": str(metrics),
        }

    def _started(self) -> subprocess.Popen[bytes]:
        with (self.folder / "collector.log").open("ab") as log:
            process = subprocess.Popen(self._command, env=self._environ, stdout=log, stderr=log)
        deadline = time.monotonic() + STARTING
        while not self._healthy():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise AssertionError(f"it did not start: {self.log[-3000:]}")
            time.sleep(0.05)
        return process

    def _healthy(self) -> bool:
        try:
            return httpx.get(self._health, trust_env=False, timeout=1).is_success
        except httpx.TransportError:
            return False

    @property
    def log(self) -> str:
        return (self.folder / "collector.log").read_text()

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it as a deployment would (SIGTERM), and return its exit status."""
        self.process.terminate()
        return self.process.wait(60)

    def restart(self) -> None:
        """Start it again, on the same ports and with the same state."""
        self.process = self._started()

    def die_starting(self, at: bytes) -> None:
        """Start it again, and kill it as soon as it has logged *at*."""
        path = self.folder / "collector.log"
        before, deadline = path.stat().st_size, time.monotonic() + STARTING
        with path.open("ab") as log:
            process = subprocess.Popen(self._command, env=self._environ, stdout=log, stderr=log)
        while at not in path.read_bytes()[before:]:
            assert time.monotonic() < deadline, self.log[-3000:]
            time.sleep(0.001)
        process.kill()
        process.wait()

    def page(self) -> str:
        """Return its own metrics, as they are scraped."""
        return httpx.get(self._metrics, trust_env=False, timeout=10).raise_for_status().text

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of its own metric *name* over the series that have *labels*."""
        samples = (sample for family in text_string_to_metric_families(self.page()) for sample in family.samples)
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())

    def memory(self, field: str = "VmRSS") -> int:
        """Return its memory in bytes: now, or the most it ever had (VmHWM)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f"{field}:"))

    def cpu(self) -> float:
        """Return the seconds of CPU that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settings(folder: Path) -> dict[str, str]:
    """Return an environment in which every config is complete, and reaches nobody."""
    stores = ("TRACES", "TEMPO", "JAEGER_PROBLEMS", "JAEGER_ORDINARY", "LOKI", "ELASTICSEARCH", "REMOTE_WRITE")
    addresses = [f"OTELCOL_{name}" for name in ("LEDGER", "GATEWAY", *stores)]
    return (
        os.environ
        | dict.fromkeys(addresses, NOWHERE)
        | {
            "OTELCOL_STATE": str(folder / "state"),
            "OTELCOL_GATEWAYS": "[127.0.0.1:9]",
            "OTELCOL_JSON_LINES": f"[{folder}/*.jsonl]",
            "OTELCOL_DECISION_WAIT": "2s",
        }
    )


@contextmanager
def collecting(binary: Path, configs: tuple[str, ...], folder: Path, **environ: str) -> Iterator[Collector]:
    """Run *configs* inside the block; *environ* is added to the environment."""
    folder.mkdir(parents=True, exist_ok=True)
    collector = Collector(binary, configs, folder, environ)
    try:
        yield collector
    finally:
        if collector.process.poll() is None:
            collector.kill()
