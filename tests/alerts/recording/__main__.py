"""Record incidents: run the pipeline, let it go wrong, and keep what Prometheus would have stored.

    .venv/bin/python -m tests.alerts.recording [NAME ...]       or: make incidents

Takes some 3 minutes for each.  Needs RabbitMQ and the Collector (make collector), and two cores for itself: what is
late because others use them looks like an incident.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from examples.order_pipeline.scenarios.broker import broker
from examples.order_pipeline.scenarios.corner import own_corner
from examples.order_pipeline.scenarios.hurried import Clock
from tests.alerts.recording.faults import INCIDENTS, Incident
from tests.alerts.recording.load import Load
from tests.alerts.recording.scraping import Scraper
from tests.alerts.recording.system import STATISTICS_EVERY, System
from tests.alerts.recordings import Recorded, write
from tests.alerts.tools import ROOT
from tests.collector.processes import COLLECTOR

SETTLING = 6
"""Minutes of the hurried clock between the start of the last service and the first scrape."""
MONDAY = datetime(2026, 1, 5, 7, tzinfo=UTC)
"""When the calendar of the reference lifecycle opens, an hour before; each incident has a working day of its own."""


def record(incident: Incident, day: datetime, binary: Path) -> None:
    """Run one incident and write what was seen."""
    with (
        tempfile.TemporaryDirectory(prefix="otel-orders-incident-") as made,
        broker(private=True, statistics_every=STATISTICS_EVERY / incident.speed) as rabbitmq,
        own_corner(rabbitmq) as amqp_url,
    ):
        folder = Path(made)
        clock = Clock.starting(day.timestamp(), incident.speed)
        system = System(folder, clock, _lifecycle(incident, folder), rabbitmq, amqp_url)
        with system.running(binary), Load(system.pipeline, clock) as load:
            write(_seen(incident, system, load))


def _seen(incident: Incident, system: System, load: Load) -> Recorded:
    system.clock.sleep_until(system.clock.now() + 60 * SETTLING)
    scraper = Scraper(system.clock, system.targets)
    mended_at = 60.0 * (incident.before + incident.during)
    with ThreadPoolExecutor(max_workers=1) as beside:
        scraped = beside.submit(scraper.until, mended_at + 60 * incident.after)
        system.clock.sleep_until(scraper.began + 60 * incident.before)
        fault = system.clock.now() - scraper.began
        with incident.bring(system, load):
            system.clock.sleep_until(scraper.began + mended_at)
        mended = system.clock.now() - scraper.began
        return Recorded.of(incident, scraper.began, scraped.result(), fault, mended)


def _lifecycle(incident: Incident, folder: Path) -> Path:
    text = (ROOT / "examples/order_pipeline/lifecycle.yaml").read_text()
    for reference, here in incident.lifecycle:
        assert reference in text, reference
        text = text.replace(reference, here)
    (folder / "lifecycle.yaml").write_text(text)
    return folder / "lifecycle.yaml"


def _days() -> dict[str, datetime]:
    """Return a working day for each incident."""
    days = (MONDAY + timedelta(days=number) for number in range(365))
    working = (day for day in days if day.weekday() < 5)
    return {incident.name: day for incident, day in zip(INCIDENTS, working, strict=False)}


def main(wanted: list[str]) -> None:
    """Record the *wanted* incidents, all where none is named."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # in good order: nothing is left running
    binary = Path(_built())
    for incident in INCIDENTS:
        if not wanted or incident.name in wanted:
            print(f"{incident.name} ...", flush=True)  # noqa: T201 - a program's progress
            record(incident, _days()[incident.name], binary)


def _built() -> str:
    environ = {"UV": str(Path(sys.executable).with_name("uv"))} | os.environ
    command = [str(COLLECTOR / "build"), "--where"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environ).stdout.strip()


if __name__ == "__main__":
    main(sys.argv[1:])
