from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest
import structlog
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY, CollectorRegistry, Counter

import otel_orders
from otel_orders import configure, names, order_context, record, runtime, transition, transition_context
from otel_orders.errors import ConfigurationError, LifecycleError
from otel_orders.recorder import active
from otel_orders.sinks import exporters
from tests.sinks.memory import Counted, added, global_provider
from tests.sinks.receiver import attributes, receiver, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[1]

LIFECYCLE = """
version: 1
statuses:
  PACKAGING: {owner: mes, initial: true, next: [SHIPPED], stuck_after: 1d}
  SHIPPED: {owner: mes, terminal: true}
owners:
  mes: {services: [mes]}
sampling: {ratio: 1.0}
"""


@pytest.fixture(autouse=True)
def _shut_down() -> Iterator[None]:
    yield
    otel_orders.shutdown()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the JSON lines go."""
    path = tmp_path / "orders.jsonl"
    monkeypatch.setenv("OTEL_ORDERS_JSON_LINES", str(path))
    return path


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def lines(file: Path, event_type: str | None = None) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in file.read_bytes().splitlines()]
    return [line for line in found if event_type is None or line.get("event_type") == event_type]


def python(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run *code* in an interpreter of its own, where nothing was configured yet."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "OTEL_ORDERS_HEARTBEAT": "0"} | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def start(registry: CollectorRegistry, **more: Any) -> otel_orders.Runtime:
    return configure("mes", registry=registry, instrument=False, **more)


# What is switched on.


def test_configure_makes_every_projection(file: Path, registry: CollectorRegistry) -> None:
    start(registry)
    with transition_context("A-1", "SHIPPED", from_status="PACKAGING"):
        logging.getLogger("third.party").warning("packed")
        structlog.get_logger().info("labelled")
    (record_,) = lines(file, names.STATUS_CHANGED)
    packed, labelled = (
        next(line for line in lines(file) if line.get("event") == name) for name in ("packed", "labelled")
    )
    assert {line["order_id"] for line in (record_, packed, labelled)} == {"A-1"}
    assert {line["service"] for line in (record_, packed, labelled)} == {"mes"}
    labels = {"service_name": "mes", "from_status": "PACKAGING", "to_status": "SHIPPED"}
    assert registry.get_sample_value(names.TRANSITIONS, labels) == 1


def test_a_second_configure_returns_the_first_ones_runtime(file: Path, registry: CollectorRegistry) -> None:
    first = start(registry)
    assert configure("other", registry=registry) is first
    record("A-1", "SHIPPED")
    assert len(lines(file, "order.status_changed")) == 1


def test_the_environment_is_read_once(file: Path, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    start(registry)
    monkeypatch.setenv("OTEL_ORDERS_ENV", "prod")
    monkeypatch.setenv("OTEL_ORDERS_JSON_LINES", "none")
    record("A-1", "SHIPPED")
    assert [line["env"] for line in lines(file, "order.status_changed")] == ["dev"]


def test_the_lifecycle_is_in_force(tmp_path: Path, registry: CollectorRegistry, file: Path) -> None:
    path = tmp_path / "lifecycle.yaml"
    path.write_text(LIFECYCLE)
    found = start(registry, lifecycle=path)
    assert found.lifecycle is not None
    assert found.lifecycle.status("SHIPPED") is not None
    with pytest.raises(ConfigurationError, match="has no status 'SHIPED'"):
        transition("SHIPED", order_id="order_id")
    wait_for(lambda: lines(file, names.HEARTBEAT))
    assert lines(file, names.HEARTBEAT)[0]["lifecycle_hash"] == found.lifecycle.hash


def test_error_codes_are_registered_until_shutdown(file: Path, registry: CollectorRegistry) -> None:
    def fail() -> None:
        with pytest.raises(KeyError), transition_context("A-1", "SHIPPED"):
            raise KeyError

    start(registry, error_codes={LookupError: "not_found"})
    fail()
    otel_orders.shutdown()
    start(registry)
    fail()
    assert [line["error_code"] for line in lines(file, names.TRANSITION_FAILED)] == ["not_found", "KeyError"]


def test_ordinary_log_lines_can_stay_where_they_are(file: Path, registry: CollectorRegistry) -> None:
    start(registry, log_lines=False)
    logging.getLogger("third.party").warning("elsewhere")
    record("A-1", "SHIPPED")
    assert [line.get("event") for line in lines(file) if line.get("event_type") != names.HEARTBEAT] == [None]


@pytest.mark.usefixtures("file")
def test_instrumentation_is_switched_on_and_off_again(registry: CollectorRegistry) -> None:
    import httpx  # noqa: PLC0415

    configure("mes", registry=registry)
    assert hasattr(httpx.HTTPTransport.handle_request, "__wrapped__")
    otel_orders.shutdown()
    assert not hasattr(httpx.HTTPTransport.handle_request, "__wrapped__")


def test_a_heartbeat_says_who_is_alive(
    file: Path, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_ORDERS_HEARTBEAT", "10ms")
    monkeypatch.setenv("OTEL_ORDERS_ROLE", "worker")
    start(registry)
    wait_for(lambda: len(lines(file, names.HEARTBEAT)) >= 3)
    first, second = lines(file, names.HEARTBEAT)[:2]
    assert first["event_id"] != second["event_id"]
    assert (first["service"], first["env"], first["role"]) == ("mes", "dev", "worker")
    assert first["instance"] == f"{socket.gethostname()}:{os.getpid()}"
    otel_orders.shutdown()
    assert not [thread for thread in threading.enumerate() if "heartbeat" in thread.name]


@pytest.mark.usefixtures("file")
def test_metrics_are_served_where_a_service_has_no_page_of_its_own(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))
    start(registry)
    record("A-1", "SHIPPED")
    with urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        assert b'to_status="SHIPPED"' in page.read()
    otel_orders.shutdown()
    with pytest.raises(OSError, match="refused"):
        urlopen(f"http://127.0.0.1:{port}/metrics")


# What cannot work.


def test_a_mistake_switches_nothing_on(registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_ORDERS_JSON_LINES", "/no/such/folder/orders.jsonl")
    with (
        everything_put_back(registry),
        pytest.raises(
            ConfigurationError, match=r"OTEL_ORDERS_JSON_LINES='/no/such/.*': cannot be written: No such file"
        ),
    ):
        start(registry)


@pytest.mark.parametrize("variable", ["OTEL_ORDERS_HEARTBEAT", "OTEL_EXPORTER_PROMETHEUS_PORT"])
def test_a_wrong_value_names_its_variable(
    variable: str, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "wrong")
    with pytest.raises(ConfigurationError, match=f"{variable}='wrong': expected"):
        start(registry)


@pytest.mark.usefixtures("file")
def test_a_port_that_another_worker_has_is_said_and_costs_only_the_page(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, everything_put_back(registry):
        monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(taken.getsockname()[1]))
        started = start(registry)
        assert started.metrics_address is None
        started.shutdown()
    assert "is in use: this process shows no metrics there; give each worker process a port of its own" in caplog.text


@pytest.mark.usefixtures("file")
def test_an_address_that_is_not_this_machines_is_a_mistake(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "192.0.2.1")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
    with everything_put_back(registry), pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1: .*"):
        start(registry)


@pytest.mark.usefixtures("file")
def test_a_metric_that_has_a_name_of_ours_is_said(registry: CollectorRegistry) -> None:
    Counter(names.TRANSITIONS, "Theirs.", registry=registry)
    with pytest.raises(ConfigurationError, match="another metric has a name of ours"):
        start(registry)


def test_a_missing_lifecycle_is_a_lifecycle_error(registry: CollectorRegistry) -> None:
    with pytest.raises(LifecycleError, match=r"nowhere\.yaml"):
        start(registry, lifecycle="nowhere.yaml")


def test_a_disabled_sdk_switches_nothing_on(
    file: Path, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with everything_put_back(registry):
        found = start(registry)
        with order_context("A-1"):
            record("A-1", "SHIPPED")
        found.flush()
        found.shutdown()
    assert not file.exists()


# What is put back.


def state(registry: CollectorRegistry) -> list[Any]:
    processors = global_provider()._active_span_processor._span_processors
    return [
        sorted(family.name for family in registry.collect()),
        logging.Logger.makeRecord,
        logging.getLogRecordFactory(),
        list(logging.getLogger().handlers),
        structlog.is_configured(),
        list(structlog.get_config()["processors"]),
        processors,
        [getattr(processor, "span_exporter", None) for processor in processors],
        active().service,
    ]


@contextmanager
def everything_put_back(registry: CollectorRegistry) -> Iterator[None]:
    before = state(registry)
    yield
    assert state(registry) == before


def test_shutdown_leaves_nothing_behind_and_configure_works_again(file: Path, registry: CollectorRegistry) -> None:
    exporter = InMemorySpanExporter()
    with added(SimpleSpanProcessor(exporter)):
        for round_ in range(3):
            with everything_put_back(registry):
                found = start(registry)
                record(f"A-{round_}", "SHIPPED")
                logging.getLogger("third.party").warning("mail %s", f"{round_}@b.com")
                found.shutdown()
                found.shutdown()
    assert [line["order_id"] for line in lines(file, names.STATUS_CHANGED)] == ["A-0", "A-1", "A-2"]
    assert len([line for line in lines(file) if line.get("event") == "mail [email]"]) == 3
    assert len(exporter.get_finished_spans()) == 3


def test_an_applications_own_structlog_and_handlers_stay(file: Path, registry: CollectorRegistry) -> None:
    theirs = [structlog.processors.JSONRenderer()]
    structlog.configure(processors=theirs)
    try:
        with everything_put_back(registry):
            start(registry)
            assert structlog.get_config()["processors"] is theirs
            otel_orders.shutdown()
    finally:
        structlog.reset_defaults()
    assert file.exists()


def test_what_happens_after_shutdown_goes_nowhere(file: Path, registry: CollectorRegistry) -> None:
    start(registry)
    otel_orders.shutdown()
    size = file.stat().st_size
    counted = Counted()
    record("A-1", "SHIPPED")
    assert file.stat().st_size == size
    assert counted.faults() == {}


# Spans of a provider that the application made.


@pytest.mark.parametrize("kind", [SimpleSpanProcessor, BatchSpanProcessor])
@pytest.mark.usefixtures("file")
def test_a_provider_that_was_there_is_kept_and_its_exporters_get_masked_spans(
    kind: Callable[..., Any], registry: CollectorRegistry
) -> None:
    exporter = InMemorySpanExporter()
    processor = kind(exporter)
    with added(processor):
        provider = global_provider()
        found = start(registry)
        assert global_provider() is provider
        with order_context("4711"):
            provider.get_tracer("theirs").start_span("a@b.com", attributes={"email": "a@b.com"}).end()
        found.flush()
        otel_orders.shutdown()
        provider.get_tracer("theirs").start_span("after@b.com").end()
        processor.force_flush()
        inside, after = exporter.get_finished_spans()
        processor.shutdown()
    assert (inside.name, dict(inside.attributes or {})) == (
        "[email]",
        {"email": "[email]", "order_id": "4711", "order_bucket": 33},
    )
    assert after.name == "after@b.com", "it is the application's own exporter again"


@pytest.mark.usefixtures("file")
def test_a_processor_that_cannot_be_masked_is_named(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    class Homemade(SimpleSpanProcessor):
        def __init__(self) -> None:
            self.elsewhere = InMemorySpanExporter()

        def on_end(self, span: Any) -> None:
            self.elsewhere.export([span])

    with added(Homemade()):
        start(registry)
    assert "cannot mask the spans that" in caplog.text
    assert "Homemade" in caplog.text


# Over OTLP, in a process of its own: the global provider can be set only once.

NO_LINES = {"OTEL_ORDERS_JSON_LINES": "/dev/null"}

SERVICE = """
    import logging, os, sys, time
    import otel_orders
    from opentelemetry import trace
    from prometheus_client import REGISTRY, generate_latest

    runtime = otel_orders.configure("mes", instrument=False)
    with otel_orders.transition_context("4711", "SHIPPED", from_status="PACKAGING") as move:
        move.set(email="a@b.com", cents=5)
        trace.get_tracer("theirs").start_span("to a@b.com").end()
        logging.getLogger("theirs").warning("to a@b.com")
"""


def test_spans_and_events_arrive_at_the_endpoint_masked(tmp_path: Path) -> None:
    with receiver() as received:
        ran = python(
            SERVICE,
            OTEL_EXPORTER_OTLP_ENDPOINT=received.url,
            OTEL_RESOURCE_ATTRIBUTES="team=gold,service.instance.id=mes-1",
            OTEL_ORDERS_ENV="prod",
            OTEL_ORDERS_JSON_LINES=str(tmp_path / "orders.jsonl"),
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        spans = {span.name: attributes(span) for span in received.spans}
        (event,) = (attributes(found) for found in received.records)
    assert spans["to [email]"] == {"order_id": "4711", "order_bucket": 33}
    span = spans["transition SHIPPED"]
    assert (span["email"], event["email"], span["cents"]) == ("[email]", "[email]", 5)
    assert span["event_id"] == event["event_id"]
    assert received.records[0].span_id == next(
        one.span_id for one in received.spans if one.name == "transition SHIPPED"
    )
    about = {
        "service.name": "mes",
        "service.instance.id": "mes-1",
        "deployment.environment.name": "prod",
        "team": "gold",
    }
    assert all(resource | about == resource for resource in received.resources)
    assert "a@b.com" not in (tmp_path / "orders.jsonl").read_text()


def test_event_records_survive_a_sampler_that_keeps_no_span() -> None:
    with receiver() as received:
        ran = python(SERVICE, OTEL_EXPORTER_OTLP_ENDPOINT=received.url, OTEL_TRACES_SAMPLER="always_off", **NO_LINES)
        assert (ran.returncode, ran.stderr) == (0, "")
    assert received.spans == []
    assert [attributes(found)["order_id"] for found in received.records] == ["4711"]
    assert int.from_bytes(received.records[0].trace_id) > 0


def test_our_own_provider_works_again_after_a_shutdown() -> None:
    again = """
    runtime.shutdown()
    with otel_orders.transition_context("nobody", "SHIPPED"): pass
    otel_orders.configure("crm", instrument=False)
    with otel_orders.transition_context("4712", "SHIPPED"): pass
    """
    with receiver() as received:
        ran = python(
            textwrap.dedent(SERVICE) + textwrap.dedent(again), OTEL_EXPORTER_OTLP_ENDPOINT=received.url, **NO_LINES
        )
        assert (ran.returncode, ran.stderr) == (0, "")
    moved = [attributes(span)["order_id"] for span in received.spans if span.name == "transition SHIPPED"]
    assert moved == ["4711", "4712"]
    assert [attributes(found)["service"] for found in received.records] == ["mes", "crm"]
    assert [resource["service.name"] for resource in received.resources].count("crm") == 2


UNREACHABLE = """
    from otel_orders import runtime as limits
    from otel_orders.sinks import exporters
    limits.FLUSH_SECONDS = exporters.SHUTDOWN_SECONDS = 1.0
    before = time.monotonic()
    runtime.flush()
    flushed = time.monotonic()
    runtime.shutdown()
    print(flushed - before, time.monotonic() - flushed)
    from otel_orders.faults import failures
    print({s.labels["sink"]: s.value for m in failures().collect() for s in m.samples if s.name.endswith("_total")})
"""


SLACK = 2.0
"""Seconds that a busy machine may add."""


def test_the_real_limits_are_a_few_seconds() -> None:
    assert runtime.FLUSH_SECONDS <= 5
    assert 2 * exporters.SHUTDOWN_SECONDS <= 5


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("endpoint", ["refuses", "hangs"])
def test_an_unreachable_endpoint_costs_no_event_of_the_file_and_no_long_shutdown(
    endpoint: str, protocol: str, tmp_path: Path
) -> None:
    path = tmp_path / "orders.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if endpoint == "refuses":
            server.close()
        ran = python(
            textwrap.dedent(SERVICE) + textwrap.dedent(UNREACHABLE),
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_ORDERS_JSON_LINES=str(path),
        )
    assert ran.returncode == 0, ran.stderr
    times, faults = ran.stdout.splitlines()
    flush, shutdown = map(float, times.split())
    assert flush < 1 + SLACK
    assert shutdown < 2 * 1 + SLACK, "spans and events, one after the other"
    assert [line["order_id"] for line in lines(path, names.STATUS_CHANGED)] == ["4711"]
    assert "'otlp_logs': 1.0" in faults
    assert "'traces': " in faults
    assert (
        len([line for line in lines(path) if line.get("logger") == "otel_orders" and "otlp_logs" in line["event"]]) == 1
    )


# Forks.

FORK = """
    import os, threading, logging, sys
    import otel_orders
    runtime = otel_orders.configure("mes", instrument=False)
    stop = threading.Event()
    def hammer():
        while not stop.is_set():
            otel_orders.record("parent", "SHIPPED")
    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads: thread.start()
    children = []
    for number in range(10):
        pid = os.fork()
        if not pid:
            otel_orders.record(f"child-{number}", "SHIPPED")
            runtime.flush()
            runtime.shutdown()
            os._exit(0)
        children.append(pid)
    stop.set()
    for thread in threads: thread.join()
    print([os.waitpid(pid, 0)[1] for pid in children])
"""


@pytest.mark.slow
def test_forked_children_record_and_are_alive_whatever_the_parents_threads_did(tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    with receiver() as received:
        ran = python(
            FORK,
            OTEL_EXPORTER_OTLP_ENDPOINT=received.url,
            OTEL_ORDERS_JSON_LINES=str(path),
            OTEL_ORDERS_HEARTBEAT="1m",
        )
        assert ran.stdout.strip() == str([0] * 10), ran.stderr
    children = {f"child-{number}" for number in range(10)}
    assert {line["order_id"] for line in lines(path, names.STATUS_CHANGED)} == children | {"parent"}
    assert children <= {attributes(found).get("order_id") for found in received.records}
    assert len({line["instance"] for line in lines(path, names.HEARTBEAT)}) == 11


# Streams.


def test_a_stdout_that_nobody_reads_never_blocks_a_service() -> None:
    code = """
    import sys, logging, otel_orders
    otel_orders.configure("mes", instrument=False)
    for number in range(2000):
        otel_orders.record(f"A-{number}", "SHIPPED", note="x" * 200)
        logging.getLogger("theirs").warning("y" * 5000)
    sys.stderr.write("went on")
    """
    read, write = os.pipe()
    service = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "OTEL_ORDERS_JSON_LINES": "stdout"},
        stdout=write,
        stderr=subprocess.PIPE,
    )
    try:
        said = service.communicate(timeout=30)[1]
        assert said.endswith(b"went on")
        assert b"failed with BlockingIOError" in said
        assert service.returncode == 0
    finally:
        service.kill()
        os.close(read)
        os.close(write)


def test_by_default_events_and_log_lines_go_to_stderr() -> None:
    ran = python(SERVICE)
    assert ran.stdout == ""
    events = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [event.get("order_id") for event in events] == ["4711", "4711"]


def test_a_full_disk_is_counted_and_the_service_goes_on(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_ORDERS_JSON_LINES", "/dev/full")
    monkeypatch.setenv("OTEL_ORDERS_HEARTBEAT", "0")
    counted = Counted()
    start(registry)
    record("A-1", "SHIPPED")
    labels = {"service_name": "mes", "from_status": "", "to_status": "SHIPPED"}
    assert registry.get_sample_value(names.TRANSITIONS, labels) == 1
    assert counted.faults()["json_lines"] == 1
    assert registry.get_sample_value(names.SINK_FAILURES, {"sink": "json_lines"}) >= 1  # type: ignore[operator]


@pytest.mark.usefixtures("file")
def test_the_default_registry_is_prometheus_clients_own() -> None:
    configure("mes", instrument=False)
    assert names.TRANSITIONS.removesuffix("_total") in {family.name for family in REGISTRY.collect()}
    otel_orders.shutdown()
    assert names.TRANSITIONS.removesuffix("_total") not in {family.name for family in REGISTRY.collect()}
