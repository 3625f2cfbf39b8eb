"""How the services start and stop, and what the old one does without us."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pika
import pytest

from examples.order_pipeline import topology
from examples.order_pipeline.scenarios.broker import Broker, BrokerUnavailable
from examples.order_pipeline.scenarios.corner import own_corner
from examples.order_pipeline.scenarios.pipeline import LIFECYCLE, PACKAGE
from examples.order_pipeline.scenarios.processes import Service, ServiceFailedError, Services
from examples.order_pipeline.scenarios.trouble import lose_message
from examples.order_pipeline.topology import OWN_LIFECYCLE
from otel_orders.lifecycle import load_lifecycle

ROOT = Path(__file__).parents[2]


def start_terminal(services: Services, folder: Path) -> Service:
    files = ("--address-file", folder / "terminal.address", "--journal", folder / "terminal.jsonl")
    return services.start("terminal", f"{PACKAGE}.legacy_mes.server", *files)


def test_the_old_terminal_writes_one_line_for_an_order_however_often_it_is_sent(tmp_path: Path) -> None:
    for _restart in range(2):
        with Services(tmp_path, {}) as services:
            url = f"{start_terminal(services, tmp_path).address()}/packaging"
            for order_id in ("a", "b", "a"):
                assert httpx.post(url, json={"order_id": order_id}, trust_env=False).status_code == 204
            (tmp_path / "terminal.address").unlink()
    lines = [json.loads(line) for line in (tmp_path / "terminal.jsonl").read_text().splitlines()]
    assert [line["order_id"] for line in lines] == ["a", "b"]
    occurred_at = datetime.fromisoformat(lines[0].pop("occurred_at"))
    assert timedelta(0) < datetime.now(UTC) - occurred_at < timedelta(minutes=5)
    assert lines[0] == {
        "event_type": "order.status_changed",
        "order_id": "a",
        "from_status": "MANUFACTURING_COMPLETED",
        "to_status": "PACKAGING",
        "service": "legacy-mes",
    }


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/packaging", b"", 400),
        ("/packaging", b"[]", 400),
        ("/packaging", b'{"order_id": 1}', 400),
        ("/packaging", b'{"order_id": "line\\nbreak"}', 400),
        ("/packaging", b" " * 5000, 400),
        ("/other", b'{"order_id": "a"}', 404),
    ],
)
def test_the_old_terminal_refuses_what_it_does_not_understand(
    tmp_path: Path, path: str, body: bytes, status: int
) -> None:
    with Services(tmp_path, {}) as services:
        url = start_terminal(services, tmp_path).address()
        assert httpx.post(url + path, content=body, trust_env=False).status_code == status
    assert (tmp_path / "terminal.jsonl").read_text() == ""


def test_the_old_terminal_knows_nothing_but_the_standard_library() -> None:
    code = (
        "import json, sys; sys.path.insert(0, '.'); import examples.order_pipeline.legacy_mes.server;"
        "print(json.dumps([name for name in sys.modules if name.partition('.')[0] not in sys.stdlib_module_names]))"
    )
    python = [sys.executable, "-IS", "-c", code]
    loaded = json.loads(subprocess.run(python, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
    assert {name.partition(".")[0] for name in loaded} - {"__main__"} == {"examples"}


@pytest.mark.parametrize("setting", ["AMQP_URL", "SHOP_URL"])
def test_a_service_without_a_setting_says_which(tmp_path: Path, setting: str) -> None:
    environment = {"AMQP_URL": "amqp://127.0.0.1:1", "SHOP_URL": "http://127.0.0.1:1"} | {setting: ""}
    with Services(tmp_path, environment) as services:
        worker = services.start("worker", f"{PACKAGE}.pricing.worker", "--database", tmp_path / "pricing.db")
        with pytest.raises(ServiceFailedError, match=f"(?s)worker did not get ready; it ended .*set {setting}"):
            worker.address()


def test_services_end_with_the_scenario_however_it_ends(tmp_path: Path) -> None:
    scenario = (
        "import pathlib, signal, sys;"
        "from examples.order_pipeline.scenarios.processes import Services;"
        "folder = pathlib.Path(sys.argv[1]);"
        "services = Services(folder, {});"
        "terminal = services.start('terminal', 'examples.order_pipeline.legacy_mes.server',"
        " '--address-file', folder / 'terminal.address', '--journal', folder / 'terminal.jsonl');"
        "print(terminal.address(), flush=True); signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", scenario, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        address = run.stdout.readline().strip()
        assert httpx.get(f"{address}/healthz", trust_env=False).is_success
        run.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx.get(f"{address}/healthz", trust_env=False)
        except httpx.TransportError:
            break
        assert time.monotonic() < deadline, "the service outlived its scenario"


@pytest.mark.broker
def test_every_queue_of_the_lifecycle_is_declared_durable_and_bound(vhost_url: str) -> None:
    topology.declare(vhost_url)
    topology.declare(vhost_url)  # changes nothing
    with pika.BlockingConnection(pika.URLParameters(vhost_url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        queues = load_lifecycle(OWN_LIFECYCLE).queues.values()
        for exchange, routing_key in {binding for queue in queues for binding in queue.bindings}:
            channel.basic_publish(exchange, routing_key, b"", mandatory=True)  # raises where it is not routed
        for queue in queues:
            assert channel.queue_declare(queue.name, durable=True, passive=True).method.message_count == 1


@pytest.mark.broker
def test_a_broker_of_somebody_else_is_left_as_it_was(vhost_url: str) -> None:
    foreign = Broker(vhost_url)  # without a management API to make a virtual host
    with own_corner(foreign) as amqp_url:
        topology.declare(amqp_url)
        with (
            pytest.raises(BrokerUnavailable, match=r"has the queues pricing\.requests, .* already"),
            own_corner(foreign),
        ):
            pytest.fail("two pipelines would have shared one queue")
        assert topology.existing_queues(vhost_url)
    assert not topology.existing_queues(vhost_url)


@pytest.mark.broker
def test_only_the_message_that_was_meant_gets_lost(vhost_url: str) -> None:
    topology.declare(vhost_url)
    with pytest.raises(LookupError, match="the next message is not the one of a"):
        lose_message(vhost_url, "pricing.requests", "a")


def test_the_lifecycle_of_the_demo_differs_in_durations_only() -> None:
    own, demo = (
        without_durations(msgspec.to_builtins(load_lifecycle(path), enc_hook=int))
        for path in (OWN_LIFECYCLE, LIFECYCLE)
    )
    assert demo == own


def without_durations(value: Any) -> Any:
    """Return a lifecycle without what a demo may shorten, and without its hash."""
    if not isinstance(value, dict):
        return value
    durations = {"stuck_after", "stalled_after", "within", "quiet_after", "oldest_after", "hash"}
    return {key: without_durations(inner) for key, inner in value.items() if key not in durations}
