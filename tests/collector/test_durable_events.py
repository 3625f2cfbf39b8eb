"""What happens to event records while the ledger is away and the Collector is killed: nothing is lost."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import httpx

from otel_orders.server.bodies import MAX_BODY
from tests.collector.gate import accepted, counted, gate, post
from tests.collector.processes import AGENT, COLLECTOR, LINES, Collector, collecting
from tests.integration.processes import running
from tests.ledger import senders
from tests.ledger.senders import SECOND, changed
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

NOW = int(time.time()) - 60
MEGABYTE = 1 << 20
DAY = 86_400
BATCH = 50
BATCHES = 200


class Sender:
    """Sends events in the background, each batch until it is acknowledged."""

    def __init__(self, url: str) -> None:
        self.acknowledged = self.refused = 0
        self._url = url
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        with httpx.Client(base_url=self._url, trust_env=False, timeout=10) as client:
            for batch in range(BATCHES):
                records = [changed(f"A-{batch}-{n}", event_id=f"{batch}/{n}") for n in range(BATCH)]
                self.refused += post(client, "/v1/logs", senders.logs(records))
                self.acknowledged += BATCH

    def done(self) -> bool:
        return not self._thread.is_alive()


def test_an_absent_ledger_and_a_killed_collector_lose_no_event(binary: Path, tmp_path: Path) -> None:
    with (
        running(tmp_path) as ledger,
        gate(ledger.url) as way,
        collecting(binary, AGENT, tmp_path, OTELCOL_LEDGER=way.url) as collector,
    ):
        sender = Sender(collector.url)
        wait_for(lambda: accepted(ledger) > 0)
        way.close()
        while_away = sender.acknowledged
        wait_for(lambda: sender.acknowledged > while_away + 10 * BATCH)
        collector.kill()
        collector.restart()
        wait_for(lambda: sender.acknowledged > while_away + 30 * BATCH, seconds=120)
        way.open()
        wait_for(lambda: accepted(ledger) > while_away + 10 * BATCH, seconds=120)
        collector.kill()  # in the middle of handing over what waited
        collector.restart()
        wait_for(sender.done, seconds=120)
        wait_for(lambda: accepted(ledger) >= BATCH * BATCHES, seconds=120)
        assert sender.refused > 0
        assert accepted(ledger) == sender.acknowledged == BATCH * BATCHES
        assert counted(ledger, "rejected") == counted(ledger, "late") == 0


AT_ONCE = 5
"""Requests that are on their way to the ledger at a time, or next: four senders, and one that waits for them."""


def test_a_kill_in_the_middle_of_a_start_costs_no_more_than_what_was_on_its_way(binary: Path, tmp_path: Path) -> None:
    with (
        running(tmp_path) as ledger,
        gate(ledger.url) as way,
        collecting(binary, AGENT, tmp_path, OTELCOL_LEDGER=way.url) as collector,
    ):
        way.close()
        with httpx.Client(base_url=collector.url, trust_env=False, timeout=10) as client:
            for number in range(100):
                post(client, "/v1/logs", senders.logs([changed(f"A-{number}", event_id=str(number))]))
        collector.kill()
        collector.die_starting(at=b"Fetching items left for dispatch")
        collector.restart()
        way.open()
        queued = "otelcol_exporter_queue_size"
        wait_for(lambda: accepted(ledger) >= 100 - AT_ONCE, seconds=120)
        wait_for(lambda: collector.metric(queued, exporter="otlp_http/ledger") == 0, seconds=120)
        assert counted(ledger, "rejected") == 0


def until_full(client: httpx.Client, batches: list[ExportLogsServiceRequest]) -> int:
    """Send *batches* until one is not answered, and return how many records were."""
    headers = {"content-type": "application/x-protobuf"}
    for place, batch in enumerate(batches):
        try:
            client.post("/v1/logs", content=batch.SerializeToString(), headers=headers).raise_for_status()
        except httpx.ReadTimeout:
            return place * 500
    raise AssertionError("it never was full")


def test_a_full_queue_makes_senders_wait_and_gives_nothing_up(binary: Path, tmp_path: Path) -> None:
    batches = [senders.logs([changed(f"A-{batch}-{n}") for n in range(500)]) for batch in range(4)]
    with (
        running(tmp_path) as ledger,
        gate(ledger.url) as way,
        collecting(binary, AGENT, tmp_path, OTELCOL_LEDGER=way.url, OTELCOL_EVENTS_KEPT="200000") as collector,
        httpx.Client(base_url=collector.url, trust_env=False, timeout=2) as client,
    ):
        way.close()
        taken = until_full(client, batches)
        assert taken >= 1000
        way.open()
        wait_for(lambda: accepted(ledger) >= taken, seconds=60)
        for batch in batches:
            post(client, "/v1/logs", batch)
        wait_for(lambda: accepted(ledger) == 2000, seconds=60)


def test_a_full_disk_refuses_records_and_keeps_those_that_it_has(binary: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.yaml"
    small.write_text("extensions: {file_storage/events: {max_size: 1000000}}\n")
    batches = [senders.logs([changed(f"A-{batch}-{n}", padding="x" * 200) for n in range(500)]) for batch in range(8)]
    with (
        running(tmp_path) as ledger,
        gate(ledger.url) as way,
        collecting(binary, (*AGENT, str(small)), tmp_path, OTELCOL_LEDGER=way.url) as collector,
        httpx.Client(base_url=collector.url, trust_env=False, timeout=30) as client,
    ):
        way.close()
        headers = {"content-type": "application/x-protobuf"}
        answers = [client.post("/v1/logs", content=one.SerializeToString(), headers=headers) for one in batches]
        taken = [answer.status_code for answer in answers].count(200)
        assert 0 < taken < len(batches)
        assert {answer.status_code for answer in answers} == {200, 503}
        way.open()
        wait_for(lambda: accepted(ledger) == taken * 500, seconds=60)
        post(client, "/v1/logs", batches[-1])
        wait_for(lambda: accepted(ledger) == (taken + 1) * 500, seconds=60)


def line(number: int, **fields: Any) -> str:
    """Return a line as the packaging terminal writes it."""
    record = changed(f"P-{number}", "PACKAGING", "MANUFACTURING_COMPLETED", service="legacy-mes")
    return json.dumps(record | {"occurred_at": datetime.fromtimestamp(NOW, UTC).isoformat()} | fields)


def on_the_disk(path: Path, lines: list[str]) -> None:
    with path.open("a") as file:
        file.write("".join(f"{one}\n" for one in lines))


def killed_while(collector: Collector, reading: Callable[[], bool]) -> None:
    wait_for(reading, seconds=60)
    collector.kill()
    collector.restart()


def test_lines_of_a_file_are_at_the_ledger_whatever_kills_the_collector(binary: Path, tmp_path: Path) -> None:
    journal = tmp_path / "terminal.jsonl"
    on_the_disk(journal, [line(n) for n in range(5_000)])
    with running(tmp_path) as ledger, collecting(binary, LINES, tmp_path, OTELCOL_LEDGER=ledger.url) as collector:
        killed_while(collector, lambda: accepted(ledger) > 0)
        on_the_disk(journal, [line(n) for n in range(5_000, 10_000)])
        killed_while(collector, lambda: accepted(ledger) > 3_000)
        collector.kill()
        on_the_disk(journal, [line(n) for n in range(10_000, 11_000)])  # written while nobody reads
        journal.rename(tmp_path / "terminal.1.jsonl")
        on_the_disk(journal, [line(n) for n in range(11_000, 12_000)])
        collector.restart()
        wait_for(lambda: accepted(ledger) == 12_000, seconds=60)
        os.truncate(journal, 0)
        on_the_disk(journal, [line(12_000)])
        wait_for(lambda: accepted(ledger) == 12_001, seconds=60)
        assert not (tmp_path / "state/rejected.jsonl").exists() or not rejected(tmp_path)


def rejected(folder: Path) -> dict[str, str]:
    """Return the reason by line of all that was kept aside."""
    found: dict[str, str] = {}
    for request in map(json.loads, (folder / "state/rejected.jsonl").read_text().splitlines()):
        for resource in request["resourceLogs"]:
            for record in resource["scopeLogs"][0]["logRecords"]:
                reasons = [one["value"]["stringValue"] for one in record["attributes"] if one["key"] == "rejected"]
                found[record["body"]["stringValue"]] = reasons[0]
    return found


BAD = {
    "half a li": "no JSON object",
    "[1, 2]": "no JSON object",
    line(1, order_id=" "): "no order_id",
    json.dumps({"event_type": "order.observed", "occurred_at": 1, "to_status": "CLOSED"}): "no order_id",
    line(2, to_status=None): "no to_status",
    line(3, event_type="order.message_settled"): "no outcome",
    line(4, occurred_at="yesterday"): "occurred_at is neither unix ns nor ISO 8601 with an offset",
    line(5, occurred_at="2026-11-21T07:30:00"): "occurred_at is neither unix ns nor ISO 8601 with an offset",
    line(6, occurred_at=1.5): "occurred_at is neither unix ns nor ISO 8601 with an offset",
    line(7, occurred_at=(NOW + 3600) * SECOND): "its clock is ahead",
    line(8, occurred_at="2999-01-01 00:00:00.5+01:00"): "its clock is ahead",
    line(9, occurred_at=(NOW - 91 * DAY) * SECOND): "older than the ledger keeps orders",
    line(10, occurred_at=f"{datetime.fromtimestamp(NOW - 91 * DAY, UTC):%Y-%m-%dT%H:%M:%SZ}"): (
        "older than the ledger keeps orders"
    ),
    line(11, event_type="order.transition_failed", occurred_at=(NOW - 31 * DAY) * SECOND): (
        "older than the ledger keeps failures"
    ),
    line(12, env="production"): "another environment",
    line(13, order_id="x" * 300): "order_id is no text, too long, or has control characters",
    line(14, to_status={"a": 1}): "to_status is no text, too long, or has control characters",
    line(15, order_id="a\nb"): "order_id is no text, too long, or has control characters",
}
FINE = [
    line(10),
    line(11, occurred_at=NOW * SECOND + 1),
    line(12, occurred_at=str(NOW * SECOND)),
    line(13, occurred_at=None, timestamp=f"{datetime.fromtimestamp(NOW, UTC):%Y-%m-%d %H:%M:%SZ}"),
    line(14, attributes={"parcels": 2}),
    line(15, event_type="order.status_changed "),
    line(16, occurred_at=(NOW - 31 * DAY) * SECOND),
    line(17, order_id=f"A-{'9' * 250}"),
]


def test_a_bad_line_is_kept_aside_with_its_reason_and_costs_no_neighbour(binary: Path, tmp_path: Path) -> None:
    mixed = [one for pair in zip_longest(BAD, FINE) for one in pair if one]
    on_the_disk(tmp_path / "terminal.jsonl", [*mixed, json.dumps({"level": "info", "message": "an ordinary line"})])
    environ = {"OTELCOL_ENV": "test|staging"}
    with running(tmp_path) as ledger, collecting(binary, LINES, tmp_path, OTELCOL_LEDGER=ledger.url, **environ):
        wait_for(lambda: accepted(ledger) == len(FINE), seconds=60)
        wait_for(lambda: (tmp_path / "state/rejected.jsonl").exists() and len(rejected(tmp_path)) == len(BAD))
        assert rejected(tmp_path) == BAD
        assert counted(ledger, "rejected") == counted(ledger, "late") == 0
        with ledger.client() as client:
            story = client.get("/orders/P-11").json()
        assert story["status"] == "PACKAGING"
        assert story["since"] == NOW * SECOND + 1  # to the nanosecond, not to what a float can hold


def test_files_that_begin_alike_are_read_each(binary: Path, tmp_path: Path) -> None:
    head = [line(n) for n in range(12)]
    assert 1_000 < sum(map(len, head)) < 16_000
    for name, number in (("one", 100), ("two", 200)):
        on_the_disk(tmp_path / f"{name}.jsonl", [*head, line(number)])
    with running(tmp_path) as ledger, collecting(binary, LINES, tmp_path, OTELCOL_LEDGER=ledger.url):
        wait_for(lambda: accepted(ledger) == len(head) + 2, seconds=60)


def test_a_line_without_its_end_waits_for_it(binary: Path, tmp_path: Path) -> None:
    journal, half = tmp_path / "terminal.jsonl", len(line(1)) // 2
    with running(tmp_path) as ledger, collecting(binary, LINES, tmp_path, OTELCOL_LEDGER=ledger.url):
        with journal.open("w") as file:
            file.write(line(0) + "\n" + line(1)[:half])
        wait_for(lambda: accepted(ledger) == 1, seconds=60)
        begun = time.monotonic()
        wait_for(lambda: time.monotonic() > begun + 1)  # twice what a reader waits for the rest, unless told otherwise
        with journal.open("a") as file:
            file.write(line(1)[half:] + "\n")
        wait_for(lambda: accepted(ledger) == 2, seconds=60)
        assert not (tmp_path / "state/rejected.jsonl").exists() or not rejected(tmp_path)


def test_a_system_with_field_names_of_its_own_is_mapped_as_the_readme_says(binary: Path, tmp_path: Path) -> None:
    example = (COLLECTOR / "README.md").read_text().partition("<!-- mapping -->")[2]
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(example.partition("```yaml")[2].partition("```")[0])
    at = datetime.fromtimestamp(NOW + 3600, UTC)
    own = {"order": "L-1", "state": "packed", "at": f"{at:%Y-%m-%dT%H:%M:%S}"}
    on_the_disk(tmp_path / "terminal.jsonl", [json.dumps(own)])
    configs = (*LINES, str(mapping))
    with (
        running(tmp_path) as ledger,
        collecting(binary, configs, tmp_path, OTELCOL_LEDGER=ledger.url),
        ledger.client() as client,
    ):
        wait_for(lambda: accepted(ledger) == 1, seconds=60)
        story = client.get("/orders/L-1").json()
    assert (story["status"], story["since"]) == ("PACKAGING", NOW * SECOND)


def test_events_do_not_wait_for_ordinary_lines_whose_way_is_blocked(binary: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.yaml"
    small.write_text("exporters: {otlp_http/gateway: {sending_queue: {queue_size: 1000}}}\n")
    ordinary = [json.dumps({"level": "info", "message": f"line {n}"}) for n in range(3_000)]
    on_the_disk(tmp_path / "service.jsonl", [*ordinary, *(line(n) for n in range(100)), *ordinary])
    configs = (*LINES, str(small))
    with running(tmp_path) as ledger, collecting(binary, configs, tmp_path, OTELCOL_LEDGER=ledger.url) as collector:
        refused = "otelcol_exporter_enqueue_failed_log_records"
        wait_for(lambda: collector.metric(f"{refused}_total") + collector.metric(refused) > 0, seconds=60)
        wait_for(lambda: accepted(ledger) == 100, seconds=60)
        assert counted(ledger, "duplicate") == 0


def test_a_request_that_the_ledger_would_not_take_reaches_it_in_pieces(binary: Path, tmp_path: Path) -> None:
    large = {f"note_{n}": "x" * 250 for n in range(32)}
    records = senders.logs([changed(f"A-{n}", **large) for n in range(2_000)])
    assert MAX_BODY < records.ByteSize() < 20 * MEGABYTE
    with (
        running(tmp_path) as ledger,
        collecting(binary, AGENT, tmp_path, OTELCOL_LEDGER=ledger.url) as collector,
        httpx.Client(base_url=collector.url, trust_env=False, timeout=30) as client,
    ):
        post(client, "/v1/logs", records)
        wait_for(lambda: accepted(ledger) == 2_000, seconds=60)
