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
