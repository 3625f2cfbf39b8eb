"""The ledger as a process: killed, stopped, out of disk, rebased, and spoken to by real OpenTelemetry exporters."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import socket
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from prometheus_client.parser import text_string_to_metric_families

import otel_orders
from otel_orders import names
from otel_orders.ledger.probe import PASSWORD, USER
from tests.integration.processes import LIFECYCLE, running, started
from tests.ledger import senders
from tests.ledger.senders import SECOND, changed, walk
from tests.ledger.test_probe import answering
from tests.sinks.memory import added
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAY = ("INITIATED", "FILE_UPLOADED", "SUBMITTED", "PRICE_CALCULATED", "MANUFACTURING_APPROVED", "CANCELLED")
ANSWERED = (names.LEDGER_EVENTS, names.SLA_AT_RISK)
"""Series that retries and the moment of asking change."""


def totals(folder: Path) -> dict[str, int]:
    with closing(sqlite3.connect(folder / "ledger.db")) as store:
        rows = store.execute("SELECT series, value FROM totals").fetchall()
    return {series: value for series, value in rows if value and json.loads(series)[0] not in ANSWERED}


def accepted(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "ledger.db")) as store:
        series = json.dumps([names.LEDGER_EVENTS, "accepted"], separators=(",", ":"))
        found = store.execute("SELECT value FROM totals WHERE series = ?", (series,)).fetchone()
    return found[0] if found else 0


def post(client: httpx.Client, records: list[dict[str, Any]]) -> httpx.Response:
    return client.post("/events", content=senders.lines(records))


@contextmanager
def sending(where: dict[str, str], batches: list[list[dict[str, Any]]]) -> Iterator[threading.Thread]:
    """Send *batches* one after the other, each again and again until it is acknowledged, as exporters do."""

    def send() -> None:
        with httpx.Client(timeout=5, trust_env=False) as client:
            for batch in batches:
                while not taken(client, senders.lines(batch)):
                    time.sleep(0.005)

    def taken(client: httpx.Client, body: bytes) -> bool:
        try:
            return client.post(where["url"] + "/events", content=body).is_success
        except (httpx.HTTPError, KeyError):
            return False

    sender = threading.Thread(target=send)
    sender.start()
    yield sender
    sender.join()


@pytest.mark.no_cover
@pytest.mark.slow
def test_killed_five_times_while_events_come_it_loses_and_doubles_nothing(tmp_path: Path) -> None:
    start = time.time_ns() - 200 * SECOND
    orders = [walk(f"A-{place}", *WAY, start=start + place, partner_id="acme") for place in range(600)]
    batches = [[step for order in orders[at : at + 2] for step in order] for at in range(0, len(orders), 2)]
    random.Random(7).shuffle(batches)
    where: dict[str, str] = {}
    interrupted = 0
    followed = tmp_path / "legacy.jsonl"
    lines = senders.lines(step for place in range(200) for step in walk(f"L-{place}", *WAY, start=start)).splitlines(
        keepends=True
    )
    with sending(where, batches) as sender, followed.open("wb", buffering=0) as file:
        for kill in range(5):
            with running(tmp_path, "--follow", str(followed)) as ledger:
                where["url"] = ledger.url
                file.write(b"".join(lines[kill * 240 : (kill + 1) * 240]))
                reached = accepted(tmp_path)
                wait_for(lambda: accepted(tmp_path) >= reached + 60 or not sender.is_alive())  # noqa: B023
                interrupted += sender.is_alive()
                ledger.stop(signal.SIGKILL)
        with running(tmp_path, "--follow", str(followed)) as ledger:
            where["url"] = ledger.url
            sender.join()
            wait_for(lambda: accepted(tmp_path) >= (600 + 200) * len(WAY))
            assert ledger.stop(signal.SIGTERM) == 0
    assert interrupted >= 3
    assert accepted(tmp_path) == (600 + 200) * len(WAY)
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    with running(undisturbed) as ledger, ledger.client() as client:
        assert post(client, [step for batch in batches for step in batch]).is_success
        assert client.post("/events", content=b"".join(lines)).is_success
        ledger.stop(signal.SIGTERM)
    assert totals(tmp_path) == totals(undisturbed)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_soon_with_all_that_was_acknowledged(tmp_path: Path, signal_number: int) -> None:
    acknowledged: list[str] = []
    with running(tmp_path) as ledger:

        def send() -> None:
            with ledger.client() as client:
                for place in range(100_000):
                    try:
                        post(client, [changed(f"A-{place}")]).raise_for_status()
                    except httpx.HTTPError:
                        return
                    acknowledged.append(f"A-{place}")

        sender = threading.Thread(target=send)
        sender.start()
        wait_for(lambda: len(acknowledged) > 20)
        began = time.monotonic()
        assert ledger.stop(signal_number) == 0
        assert time.monotonic() - began < 5
        sender.join()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as store:
        kept = {order_id for (order_id,) in store.execute("SELECT order_id FROM orders")}
    assert set(acknowledged) <= kept
    assert "Traceback" not in ledger.errors.read_text()


def test_idle_connections_do_not_hold_it_back(tmp_path: Path) -> None:
    with running(tmp_path) as ledger, ledger.client() as client:
        assert client.get("/readyz").is_success  # and the connection stays open
        address = (client.base_url.host, client.base_url.port or 0)
        with socket.create_connection(address):
            began = time.monotonic()
            assert ledger.stop(signal.SIGTERM) == 0
            assert time.monotonic() - began < 5


def test_a_full_disk_refuses_events_and_loses_none(tmp_path: Path) -> None:
    with running(tmp_path) as ledger, ledger.client() as client:
        assert post(client, [changed("before")]).is_success
        limits = resource.prlimit(ledger.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(ledger.process.pid, resource.RLIMIT_FSIZE, (8192, limits[1]))
        big = [changed(f"A-{place}", padding="x" * 250) for place in range(200)]
        answer = post(client, big)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert client.get("/orders/before").is_success
        assert client.get("/metrics").is_success
        resource.prlimit(ledger.process.pid, resource.RLIMIT_FSIZE, limits)
        assert post(client, big).json()["results"] == {"accepted": 200}
        assert ledger.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("lines", [True, False], ids=["with its JSON lines followed", "by OTLP alone"])
def test_real_exporters_deliver_a_services_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, lines: bool
) -> None:
    written = tmp_path / "shop.jsonl"
    with running(tmp_path, "--follow", str(written)) as ledger, ledger.client() as client:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", ledger.url)
        monkeypatch.setenv("OTEL_ORDERS_ENV", "test")
        monkeypatch.setenv("OTEL_ORDERS_JSON_LINES", str(written) if lines else "none")
        monkeypatch.setenv("OTEL_ORDERS_HEARTBEAT", "100ms")
        with added(SimpleSpanProcessor(OTLPSpanExporter())):  # the application's own provider sends its spans
            otel_orders.configure(service="shop-api")
            otel_orders.record("A-1", "INITIATED", partner_id="acme")
            with otel_orders.transition_context("A-1", "FILE_UPLOADED") as move:
                move.from_status = "INITIATED"
            with pytest.raises(ValueError, match="broken"):
                _fail_to_submit("A-1")
            otel_orders.shutdown()
        wait_for(lambda: _value(client, "otel_orders_ledger_events_total", result="accepted") == 3)
        # Each event came as a span, as a log record and, with a file, as a line.
        expected = 6 if lines else 3
        wait_for(lambda: _value(client, "otel_orders_ledger_events_total", result="duplicate") == expected)
        told = client.get("/orders/A-1").json()
        assert (told["status"], told["partner_id"]) == ("FILE_UPLOADED", "acme")
        assert [event["event_type"] for event in told["events"]] == [
            names.STATUS_CHANGED,
            names.STATUS_CHANGED,
            names.TRANSITION_FAILED,
        ]
        assert told["events"][1]["trace_id"]
        assert told["events"][2]["error_code"] == "ValueError"
        assert (_value(client, names.SERVICE_LAST_EVENT, service_name="shop-api") or 0) > time.time() - 60
        assert not client.get("/metrics").text.count("A-1")


@otel_orders.transition("SUBMITTED", from_status="FILE_UPLOADED", order_id="order_id")
def _fail_to_submit(order_id: str) -> None:
    raise ValueError(f"{order_id} is broken")


def _value(client: httpx.Client, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            if (sample.name, sample.labels) == (name, labels):
                return sample.value
    return None


def test_a_changed_lifecycle_is_applied_to_the_orders_that_are_there(tmp_path: Path) -> None:
    longer = tmp_path / "lifecycle.yaml"
    text = LIFECYCLE.read_text()
    longer.write_text(text.replace("CANCELLED], stuck_after: 1d", "CANCELLED], stuck_after: 3d"))
    assert longer.read_text() != text
    with running(tmp_path) as ledger, ledger.client() as client:
        post(client, [changed("A-1", occurred_at=time.time_ns() - 2 * 86_400 * SECOND)])
        wait_for(lambda: _value(client, names.STUCK, status="INITIATED") == 1)
        ledger.stop(signal.SIGTERM)
    with running(tmp_path, "--lifecycle", str(longer)) as ledger, ledger.client() as client:
        assert _value(client, names.STUCK, status="INITIATED") == 0
        assert _value(client, names.IN_STATUS, status="INITIATED") == 1
        assert _value(client, names.REACHED, status="INITIATED") == 1
        assert client.get("/orders/A-1").json()["stuck"] is False


def test_dev_prints_events_as_they_come_and_forgets_them(tmp_path: Path) -> None:
    kept = tmp_path / "temporary"
    kept.mkdir()
    environ = {"TMPDIR": str(kept), "TERM": "dumb", "COLUMNS": "200"}
    with started(tmp_path, "dev", "--lifecycle", str(LIFECYCLE), "--env", "test", environ=environ) as ledger:
        with ledger.client() as client:
            first = changed("A-1")
            odd = changed("A-2", "NO\x1b[2JSUCH\nSTATUS", service="\x1b]0;mine\x07")
            failed = changed(
                "A-1", "FILE_UPLOADED", "INITIATED", event_type=names.TRANSITION_FAILED, error_code="Timeout"
            )
            post(client, [first, first, odd, failed])
        wait_for(lambda: ledger.output.read_text().count("\n") >= 3)
        shown = ledger.output.read_text()
        assert "A-1  ? → INITIATED  shop-api\n" in shown
        assert "A-1  INITIATED → FILE_UPLOADED  shop-api  Timeout\n" in shown
        assert "A-2  ? → NO�[2JSUCH�STATUS  �]0;mine�  [unknown_status]" in shown
        assert shown.count("\n") == 3
        assert list(kept.iterdir())
        assert ledger.stop(signal.SIGTERM) == 0
    assert not list(kept.iterdir())


def test_dev_asks_a_broker_about_the_lifecycles_queues_as_the_ledger_does(tmp_path: Path) -> None:
    told = b'{"messages_ready": 31, "messages_unacknowledged": 0, "consumers": 0}'
    with answering(200, told) as (url, asked):
        options = ("--rabbitmq", url, "--rabbitmq-vhost", "shop", "--rabbitmq-every", "1")
        environ = {USER: "somebody", PASSWORD: "s3cret"}
        with started(tmp_path, "dev", "--lifecycle", str(LIFECYCLE), *options, environ=environ) as ledger:
            with ledger.client() as client:
                wait_for(lambda: _value(client, names.QUEUE_CONSUMERS, queue="pricing.requests") == 0)
                assert _value(client, names.QUEUE_MESSAGES, queue="pricing.requests", state="ready") == 31
            assert ledger.stop(signal.SIGTERM) == 0
    assert any(path.startswith("/api/queues/shop/pricing.requests") for path in asked)


def test_dev_goes_on_when_its_terminal_is_gone(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with started(tmp_path, "dev", "--lifecycle", str(LIFECYCLE), "--env", "test", output=writer) as ledger:
        os.close(reader)
        os.close(writer)
        with ledger.client() as client:
            for place in range(3):
                assert post(client, [changed(f"A-{place}")]).is_success
            assert client.get("/readyz").text == "ready\n"
        assert ledger.stop(signal.SIGTERM) == 0
        assert "not shown any more" in ledger.errors.read_text()
