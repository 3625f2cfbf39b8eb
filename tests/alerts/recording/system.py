"""The whole reference pipeline on a hurried clock: a Collector, a ledger and all services, beside a broker."""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from examples.order_pipeline.scenarios import hurried
from examples.order_pipeline.scenarios.broker.node import free_ports
from examples.order_pipeline.scenarios.partner_server import partner_server
from examples.order_pipeline.scenarios.pipeline import PACKAGE, Pipeline
from examples.order_pipeline.scenarios.processes import Services
from examples.order_pipeline.scenarios.sidecar import start_ledger
from tests.alerts.recording.scraping import Target
from tests.collector.processes import AGENT, Collector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from examples.order_pipeline.scenarios.broker import Broker
    from examples.order_pipeline.scenarios.hurried import Clock
    from examples.order_pipeline.scenarios.processes import Service

WORKERS: Final = 2
PROBE_EVERY: Final = 15
"""Seconds of the hurried clock, as in production."""
STATISTICS_EVERY: Final = 5.0
"""Seconds in which RabbitMQ counts; its clock is not hurried, so it is told to count so much more often."""
SETTINGS: Final = {
    "AMQP_HEARTBEAT_SECONDS": "0",  # the broker is not hurried: its own heartbeats would look late
    "MES_CASTING_SECONDS": "60",
    "RETRY_AFTER_SECONDS": "30",
}


class System:
    """What runs, and what can be done to it.  clock: the one that all of it reads."""

    def __init__(self, folder: Path, clock: Clock, lifecycle: Path, rabbitmq: Broker, amqp_url: str) -> None:
        self.folder, self.clock, self.rabbitmq, self.amqp_url = folder, clock, rabbitmq, f"{amqp_url}?heartbeat=0"
        self._lifecycle = lifecycle
        self._ledger_port = free_ports(1)[0]
        self.ledger: Service
        self.workers: list[Service] = []

    @contextmanager
    def running(self, binary: Path) -> Iterator[None]:
        """Start everything, and stop it after the block."""
        with ExitStack() as stack:
            environment = {
                hurried.CLOCK: self.clock.setting(),
                "OTEL_ORDERS_LIFECYCLE": str(self._lifecycle),
                "OTEL_ORDERS_JSON_LINES": "none",
                **SETTINGS,
            }
            through = (f"{PACKAGE}.scenarios.hurried",)
            self.services = stack.enter_context(Services(self.folder, environment, through))
            self.start_ledger()
            at = self.ledger.address()
            # Whoever has no gateway may send traces to the ledger too: what comes both ways counts once.
            reaching = {"OTELCOL_LEDGER": at, "OTELCOL_GATEWAY": at}
            self.collector = Collector(binary, AGENT, self._made("collector"), reaching)
            stack.callback(self._end_collector)
            webhook = stack.enter_context(partner_server()).url
            self.pipeline = Pipeline(
                *(self.services, self.folder, self.amqp_url, webhook),
                quotas={"acme": 1_000_000, "globex": 1_000_000},
                OTEL_EXPORTER_OTLP_ENDPOINT=self.collector.url,
            )
            self.start_workers()
            yield

    def start_ledger(self) -> None:
        self.ledger = start_ledger(
            *(self.services, self.folder, self.folder / "legacy-mes.jsonl", self.rabbitmq),
            self.amqp_url.partition("?")[0],
            lifecycle=self._lifecycle,
            probe_every=PROBE_EVERY,
            port=self._ledger_port,
        )

    def start_workers(self) -> None:
        self.workers = self.pipeline.start_pricing_workers(WORKERS)
        self.pipeline.addresses |= {worker.name: worker.address() for worker in self.workers}

    def service(self, name: str) -> Service:
        """Return the newest process of that name."""
        return self.services.named(name)

    def targets(self) -> list[Target]:
        """Return what Prometheus would scrape: job, instance and URL."""
        addresses = {name: at for name, at in self.pipeline.addresses.items() if name != "legacy-mes"}
        found = [Target(re.sub(r"-\d$", "", name), f"{name}:9464", f"{at}/metrics") for name, at in addresses.items()]
        ledger = Target("ledger", "ledger:4318", f"http://127.0.0.1:{self._ledger_port}/metrics")
        return [*found, ledger, Target("otelcol", "otelcol:8888", self.collector._metrics)]

    def _made(self, name: str) -> Path:
        (self.folder / name).mkdir()
        return self.folder / name

    def _end_collector(self) -> None:
        if self.collector.process.poll() is None:
            self.collector.kill()
