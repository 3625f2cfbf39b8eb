"""Processes that end without Python's atexit, or without its streams: what was recorded arrives all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from tests.sinks.receiver import Received, attributes, receiver

SERVICE = """
    import sys, time
    import otel_orders
    runtime = otel_orders.configure("mes-api", instrument=False)
    otel_orders.record("A-1", "INITIATED")
    print("recorded", flush=True)
"""


def moves(received: Received) -> list[str]:
    found = [attributes(record) for record in received.records]
    return [one["order_id"] for one in found if one["event_type"] == "order.status_changed"]


def start(code: str, endpoint: str) -> subprocess.Popen[str]:
    """Start a service that sends nothing by itself for a minute, and that nobody measures: coverage handles SIGTERM."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BLRP_SCHEDULE_DELAY": "60000"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_is_stopped_sends_what_it_recorded_and_ends_as_it_would_have(number: signal.Signals) -> None:
    with receiver() as received, start(SERVICE + "    time.sleep(60)\n", received.url) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == "recorded\n"
        service.send_signal(number)
        assert service.wait(20) == -number
        assert len(moves(received)) == 1


def test_an_application_with_a_handler_of_its_own_keeps_it() -> None:
    code = """
    import signal
    mine = lambda number, frame: None
    signal.signal(signal.SIGTERM, mine)
    import otel_orders
    runtime = otel_orders.configure("mes-api", instrument=False)
    assert signal.getsignal(signal.SIGTERM) is mine
    runtime.shutdown()
    assert signal.getsignal(signal.SIGTERM) is mine
    """
    with receiver() as received, start(code, received.url) as service:
        assert service.wait(20) == 0, service.stderr and service.stderr.read()


def test_shutdown_gives_the_signal_back() -> None:
    code = (
        SERVICE
        + """
    import signal
    runtime.shutdown()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    """
    )
    with receiver() as received, start(code, received.url) as service:
        assert service.wait(20) == 0, service.stderr and service.stderr.read()


def test_a_child_of_multiprocessing_sends_what_it_recorded() -> None:
    code = (
        SERVICE
        + """
    import multiprocessing
    def work(number): otel_orders.record(f"B-{number}", "INITIATED")
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=work, args=(number,)) for number in range(3)]
    for child in children: child.start()
    for child in children: child.join()
    """
    )
    with receiver() as received, start(code, received.url) as service:
        assert service.wait(30) == 0, service.stderr and service.stderr.read()
        assert len(moves(received)) == 4


def test_a_process_without_standard_streams_is_configured_all_the_same() -> None:
    code = "import otel_orders; otel_orders.configure('s', instrument=False); otel_orders.record('A-1', 'X')"
    command = f'exec {sys.executable} -c "{code}" 2>&-'
    assert subprocess.run(["sh", "-c", command], check=False, timeout=30).returncode == 0


def test_a_full_disk_is_said_on_stderr() -> None:
    code = "import otel_orders; otel_orders.configure('s', instrument=False); otel_orders.record('A-1', 'X')"
    environ = os.environ | {"OTEL_ORDERS_JSON_LINES": "/dev/full"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False, timeout=30
    )
    assert ran.returncode == 0
    assert "json_lines failed with OSError" in ran.stderr


OWN_PROVIDER = """
    import os, signal, sys
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
    trace.set_tracer_provider(provider)
    import otel_orders
    otel_orders.configure("mes-api", instrument=False)
    with trace.get_tracer("theirs").start_as_current_span("mine") as span:
        span.set_attribute("contact", "bob@example.com")
"""


@pytest.mark.parametrize(
    "ending",
    ["", "otel_orders.shutdown()", "os.kill(os.getpid(), signal.SIGTERM)", "sys.exit(3)", "raise RuntimeError"],
)
def test_spans_of_the_applications_own_provider_leave_sent_and_masked_however_it_ends(ending: str) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    code = textwrap.dedent(OWN_PROVIDER) + ending
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=30, check=False
    )
    assert '"contact": "[email]"' in ended.stdout
    assert "bob@example.com" not in ended.stdout


@pytest.mark.parametrize("leave", ["os._exit(0)", "sys.exit(0)"])
def test_a_forked_child_of_a_process_with_a_metrics_page_ends_at_once(leave: str) -> None:
    code = f"""
    import os, sys, time
    import otel_orders
    otel_orders.configure("mes-api", instrument=False)
    child = os.fork()
    if not child:
        {leave}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            print("ended")
            break
        time.sleep(0.01)
    else:
        os.kill(child, 9)
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    parent = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environ | {"OTEL_EXPORTER_PROMETHEUS_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert parent.stdout == "ended\n", parent.stderr
