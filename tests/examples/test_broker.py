from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pika
import pytest

from examples.order_pipeline.scenarios.broker import Broker, BrokerUnavailable, apt, found, node
from examples.order_pipeline.scenarios.broker import broker as rabbitmq
from tests.examples.running import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
LISTEN = "0A"
IPV4_LOOPBACK, IPV6_LOOPBACK = "0100007F", "00000000000000000000000001000000"
NOWHERE = "amqp://guest:top-secret@127.0.0.1:1/"


def listens(url: str) -> bool:
    at = urlsplit(url)
    with socket.socket() as client:
        return client.connect_ex((at.hostname, at.port)) == 0


def processes_of(directory: Path) -> set[int]:
    """Return the processes that were started with *directory* somewhere in their environment."""
    owned = set()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if os.fsencode(directory) in environment.read_bytes():
                owned.add(int(environment.parent.name))
        except OSError:  # it ended meanwhile, or is not ours to see
            continue
    return owned


def listening_addresses(processes: set[int]) -> set[str]:
    """Return the addresses, as in /proc/net/tcp, on which *processes* listen."""
    handles = set()
    for handle in [handle for process in processes for handle in Path("/proc").glob(f"{process}/fd/*")]:
        with suppress(OSError):  # closed meanwhile
            handles.add(str(handle.readlink()))
    tables = [Path("/proc/net", name) for name in ("tcp", "tcp6")]
    rows = [row.split() for table in tables if table.exists() for row in table.read_text().splitlines()[1:]]
    return {row[1].rpartition(":")[0] for row in rows if row[3] == LISTEN and f"socket:[{row[9]}]" in handles}


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with no broker and no program at all; returns the folder to put some in."""
    monkeypatch.delenv("AMQP_URL", raising=False)
    monkeypatch.setattr(found, "LOCAL_URL", NOWHERE)
    monkeypatch.setattr(node, "DEBIAN_SCRIPT", tmp_path / "missing")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "env", "true", "rm", "tail", "cat", "cp"):
        (programs / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(programs))
    return programs


def test_the_broker_that_the_environment_names_is_used(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", broker.amqp_url)
    with rabbitmq() as used:
        assert used.amqp_url == broker.amqp_url
        assert not used.started_by_us


def test_a_broker_at_the_default_address_is_used(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AMQP_URL", raising=False)
    monkeypatch.setattr(found, "LOCAL_URL", broker.amqp_url)
    with rabbitmq() as used:
        assert used.amqp_url == broker.amqp_url
        assert not used.started_by_us


def test_a_named_broker_that_does_not_answer_is_an_error_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", NOWHERE)
    with pytest.raises(BrokerUnavailable, match=r"AMQP_URL is set.*127\.0\.0\.1:1") as error, rabbitmq():
        pass
    assert "top-secret" not in str(error.value)


@pytest.mark.parametrize("text", ["amqp://guest:top/secret@localhost/", "localhost:99999999", "amqp://[::1/"])
def test_a_url_that_cannot_be_read_is_an_error_without_its_password(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", text)
    with pytest.raises(BrokerUnavailable, match="AMQP_URL is set") as error, rabbitmq():
        pass
    assert "top" not in str(error.value)


def test_a_refused_login_is_no_broker(broker: Broker) -> None:
    at = urlsplit(broker.amqp_url)
    refusal = found.why_not(at._replace(netloc=f"guest:top-secret@{at.hostname}:{at.port}").geturl())
    assert refusal is not None
    assert "authentication" in refusal.lower()
    assert "top-secret" not in refusal


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 64, b""])
def test_a_stranger_at_the_port_is_no_broker(greeting: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        threading.Thread(target=_greet, args=(stranger, greeting), daemon=True).start()
        url = f"amqp://guest:guest@127.0.0.1:{stranger.getsockname()[1]}/"
        assert "no AMQP connection" in str(found.why_not(url, seconds=0.5))


def _greet(stranger: socket.socket, greeting: bytes) -> None:
    visitor, _ = stranger.accept()
    with visitor:
        visitor.sendall(greeting)
        while visitor.recv(1024):
            pass


def test_a_broker_that_was_running_before_us_is_not_ours_to_stop() -> None:
    with pytest.raises(BrokerUnavailable, match="not ours"):
        Broker(NOWHERE).ctl("stop_app")


def test_without_any_way_to_a_broker_the_error_names_all_of_them(bare_machine: Path) -> None:
    assert bare_machine
    with pytest.raises(BrokerUnavailable) as error, rabbitmq():
        pass
    for way in ("AMQP_URL", "amqp://guest:guest@localhost:5672/", "rabbitmq-server", "apt-get", "docker compose"):
        assert way in str(error.value)


def test_the_broker_shows_its_management_api_and_its_metrics(private_broker: Broker) -> None:
    at = urlsplit(private_broker.amqp_url)
    user = (at.username or "", at.password or "")
    assert httpx.get(f"{private_broker.management_url}/api/overview", auth=user).is_success
    assert "rabbitmq_build_info" in httpx.get(str(private_broker.prometheus_url)).text


def test_private_brokers_run_side_by_side_and_know_nothing_of_each_other(
    broker: Broker, private_broker: Broker
) -> None:
    with (
        pika.BlockingConnection(pika.URLParameters(broker.amqp_url)) as one,
        pika.BlockingConnection(pika.URLParameters(private_broker.amqp_url)) as other,
    ):
        queue = one.channel().queue_declare("", exclusive=True).method.queue
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
            other.channel().queue_declare(queue, passive=True)


def test_a_private_broker_can_be_stopped_and_comes_back(private_broker: Broker) -> None:
    private_broker.ctl("stop_app")
    assert "refused" in str(found.why_not(private_broker.amqp_url))
    private_broker.ctl("start_app")
    assert found.why_not(private_broker.amqp_url) is None


def test_a_wrong_rabbitmqctl_command_is_an_error_with_its_output(private_broker: Broker) -> None:
    with pytest.raises(BrokerUnavailable, match="no_such_command"):
        private_broker.ctl("no_such_command")


@pytest.mark.slow
@pytest.mark.parametrize("fatal", [signal.SIGINT, signal.SIGKILL])
def test_nothing_of_a_private_broker_outlives_whoever_started_it(
    fatal: signal.Signals, private_broker: Broker, tmp_path: Path
) -> None:
    assert private_broker.started_by_us  # so that one can be started here
    command = [sys.executable, "-m", "examples.order_pipeline.scenarios.broker"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout
            urls = [owner.stdout.readline().strip().partition("=")[2] for _ in range(3)]
            assert all(listens(url) for url in urls)
            [directory] = tmp_path.iterdir()
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
            assert {IPV4_LOOPBACK} <= listening_addresses(processes_of(directory)) <= {IPV4_LOOPBACK, IPV6_LOOPBACK}
        finally:
            owner.send_signal(fatal)
    eventually(lambda: not processes_of(tmp_path))
    assert not list(tmp_path.iterdir())
    assert not any(listens(url) for url in urls)


def test_a_server_that_does_not_start_is_an_error_with_the_last_lines_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    server = tmp_path / "rabbitmq-server"
    program(server, "echo the disk is on fire; exit 1")
    with pytest.raises(BrokerUnavailable, match="the disk is on fire"), node.started(server):
        pass
    assert list(tmp_path.iterdir()) == [server]


def test_a_port_that_was_taken_meanwhile_costs_one_more_attempt(
    private_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = urlsplit(private_broker.amqp_url).port
    choices = iter([[taken, *node.free_ports(4)], node.free_ports(5)])
    monkeypatch.setattr(node, "free_ports", lambda _count: next(choices))
    server = node.server_script()
    assert server
    with node.started(server) as second:
        assert urlsplit(second.amqp_url).port != taken


def test_rabbitmq_is_installed_where_that_takes_no_question(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    log, server = bare_machine / "log", bare_machine / "rabbitmq-server"
    program(bare_machine / "apt-get", f'echo "$1 $DEBIAN_FRONTEND" >> {log}; [ $1 = update ] || cp "$0" {server}')
    with ThreadPoolExecutor() as runners:  # which find at once that there is none
        assert list(runners.map(lambda _: apt.installed(), range(3))) == [server] * 3
    assert log.read_text().split() == ["update", "noninteractive", "install", "noninteractive"]


def test_without_root_rabbitmq_is_installed_only_through_a_sudo_that_asks_nothing(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    log = bare_machine / "log"
    log.touch()
    program(bare_machine / "apt-get", f'echo "$1" >> {log}')
    program(bare_machine / "sudo", "exit 1")
    assert apt.installed() is None
    assert log.read_text() == ""

    program(bare_machine / "sudo", 'shift; exec "$@"')
    apt.installed()
    assert log.read_text().split() == ["update", "install"]


def test_a_failed_installation_says_what_apt_said(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    program(bare_machine / "apt-get", "echo no space left on device; exit 100")
    assert apt.installed() is None
    assert "no space left on device" in capsys.readouterr().err


@pytest.fixture
def as_in_the_image(private_broker: Broker) -> Iterator[Broker]:
    """A broker whose user guest has the password that RabbitMQ's container image gives it."""
    password = str(urlsplit(private_broker.amqp_url).password)
    private_broker.ctl("change_password", "guest", "guest")
    yield private_broker
    private_broker.ctl("change_password", "guest", password)


def test_a_container_is_used_where_docker_answers_and_removed_afterwards(
    bare_machine: Path, as_in_the_image: Broker
) -> None:
    log = bare_machine / "log"
    address = urlsplit(as_in_the_image.amqp_url).netloc.rpartition("@")[2]
    program(bare_machine / "docker", f'echo "$@" >> {log}; case "$*" in *" port "*) echo {address};; esac')
    with rabbitmq(private=True) as container:
        assert container.amqp_url == f"amqp://guest:guest@{address}/"
        assert container.started_by_us
        assert "up --detach" in log.read_text()
        assert " down " not in log.read_text()
    assert " down --volumes" in log.read_text()


def test_a_container_that_cannot_be_started_is_removed_and_says_why(bare_machine: Path) -> None:
    log = bare_machine / "log"
    program(bare_machine / "docker", f'echo "$@" >> {log}; case "$*" in *" up "*) echo no image >&2; exit 1;; esac')
    with pytest.raises(BrokerUnavailable, match="no image"), rabbitmq(private=True):
        pass
    assert " down --volumes" in log.read_text()


@pytest.mark.parametrize(("required", "outcome"), [("1", "1 error"), ("", "1 skipped")])
def test_a_missing_broker_fails_in_ci_and_skips_on_a_laptop_with_the_reason(
    required: str, outcome: str, tmp_path: Path
) -> None:
    test = f"{Path(__file__).relative_to(ROOT)}::test_the_broker_that_the_environment_names_is_used"
    environment = {**os.environ, "AMQP_URL": NOWHERE, "OTEL_ORDERS_REQUIRE": required}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'base'}", test]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert outcome in result.stdout
    assert "AMQP_URL is set, but no AMQP connection to 127.0.0.1:1" in result.stdout
