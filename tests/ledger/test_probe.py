"""The probe against a real RabbitMQ, and against servers that do what a broker never should."""

from __future__ import annotations

import logging
import ssl
import subprocess
import threading
import time
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from socket import create_server
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import msgspec
import pika
import pytest

from otel_orders import names
from otel_orders.errors import ConfigurationError
from otel_orders.ledger import probe, queues
from otel_orders.ledger.probe import PASSWORD, USER, Management, Probe, management
from otel_orders.ledger.store import MessageNote
from tests.sinks.receiver import serving, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pika.adapters.blocking_connection import BlockingChannel

    from examples.order_pipeline.scenarios.broker import Broker
    from otel_orders.ledger.queues import QueueFact
    from otel_orders.ledger.store.sqlite import SqliteStore

SECOND = 10**9
WHO = {USER: "somebody", PASSWORD: "s3cret"}


def facts(store: SqliteStore) -> dict[str, QueueFact]:
    return queues.decode(store.items(queues.FACTS).values(), time.time_ns())


def at_broker(broker: Broker, vhost_url: str, **more: Any) -> Management:
    at = urlsplit(vhost_url)
    environ = {USER: unquote(at.username or ""), PASSWORD: unquote(at.password or "")}
    return management(broker.management_url or "", environ, vhost=unquote(at.path[1:]), every=1.1, **more)


@pytest.fixture(scope="session")
def kind() -> str:
    """One store is enough: what these tests are about is the broker."""
    return "sqlite"


@pytest.fixture
def channel(vhost_url: str) -> Iterator[BlockingChannel]:
    with pika.BlockingConnection(pika.URLParameters(vhost_url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel


def declare(channel: BlockingChannel, queue: str, kind: str = "classic", **arguments: Any) -> None:
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": kind, **arguments})


def publish(channel: BlockingChannel, queue: str, at: int) -> None:
    channel.basic_publish("", queue, b"", pika.BasicProperties(timestamp=at // SECOND, delivery_mode=2))


@pytest.mark.broker
def test_classic_and_quorum_queues_are_seen_as_they_are(
    broker: Broker, vhost_url: str, channel: BlockingChannel, store: SqliteStore
) -> None:
    at = time.time_ns() - 60 * SECOND
    for kind in ("classic", "quorum"):
        declare(channel, kind, kind)
        for place in range(3):
            publish(channel, kind, at + place * SECOND)
    channel.basic_consume("classic", lambda *_: None)
    channel.connection.process_data_events(0.2)  # all three are delivered, and none is acknowledged
    with closing(Probe(at_broker(broker, vhost_url), ["classic", "quorum", "a/b %2F"], store)) as probing:
        wait_for(lambda: {queue: fact.held for queue, fact in facts(store).items()} == HELD)
        wait_for(lambda: (facts(store)["classic"].unacked, facts(store)["classic"].consumers) == (3, 1))
        wait_for(lambda: facts(store)["quorum"].consumers == 0)  # broker and queue are counted each in its own time
        seen = facts(store)
        assert probing.up
    assert seen["classic"].ready == 0
    assert seen["classic"].head_at == at // SECOND * SECOND  # of the one that is delivered, too
    assert seen["quorum"].head_at is None
    assert seen["classic"].active_at is not None
    assert not seen["a/b %2F"].exists


HELD = {"classic": 3, "quorum": 3, "a/b %2F": 0}


def note(store: SqliteStore, queue: str, message_id: str, at: int) -> None:
    with store.transaction() as tx:
        tx.published([MessageNote(queue, message_id, "A-1", at)])


def empty_it(channel: BlockingChannel, queue: str) -> None:
    channel.queue_purge(queue)


def delete_it(channel: BlockingChannel, queue: str) -> None:
    channel.queue_delete(queue)


def let_it_expire(_channel: BlockingChannel, _queue: str) -> None:
    """Nothing is to be done: all its messages have a second to live."""


@pytest.mark.broker
@pytest.mark.parametrize("emptied", [empty_it, delete_it, let_it_expire])
def test_messages_that_left_unseen_are_waited_for_no_more(
    broker: Broker, vhost_url: str, channel: BlockingChannel, store: SqliteStore, emptied: Callable[..., None]
) -> None:
    queue = "pricing.requests"
    declare(channel, queue, "quorum", **({"x-message-ttl": 1000} if emptied is let_it_expire else {}))
    publish(channel, queue, time.time_ns())
    note(store, queue, "old", time.time_ns() - 600 * SECOND)
    with closing(Probe(at_broker(broker, vhost_url), [queue], store)):
        if emptied is not let_it_expire:
            wait_for(lambda: facts(store) and facts(store)[queue].held == 1)
            assert queue in store.oldest_messages()
        emptied(channel, queue)
        note(store, queue, "new", time.time_ns() + 60 * SECOND)  # it may still be on its way
        wait_for(lambda: store.oldest_messages()[queue].message_id == "new")
    assert store.totals() == {(names.MESSAGES_GONE, queue): 1}


@pytest.mark.broker
def test_a_wrong_password_is_said_and_not_shown(
    broker: Broker, store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = management(broker.management_url or "", WHO, every=0.01)
    with closing(Probe(wrong, ["q"], store)) as probing:
        wait_for(lambda: probing.pause > 0.05)
        assert (probing.up, probing.succeeded_at, facts(store)) == (False, None, {})
    assert [record.getMessage() for record in caplog.records if record.name == "otel_orders.ledger"] == [
        f"otel_orders: no probe of {wrong.url}, trying on: 401 Unauthorized for queue q"
    ]
    assert "s3cret" not in caplog.text
    assert "s3cret" not in repr(wrong)


@contextmanager
def answering(status: int, body: bytes, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[str]]]:
    """Give the URL of a server that always answers that, and the paths that it is asked for."""
    asked: list[str] = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Stay silent."""

    with serving(Endpoint, tls) as url:
        yield url, asked


@pytest.mark.parametrize("status", [302, 403, 500])
@pytest.mark.parametrize("body", [b"{}", b"[]"])
def test_an_answer_that_is_none_is_a_failure_and_is_asked_for_more_rarely(
    store: SqliteStore, status: int, body: bytes
) -> None:
    with answering(status, body) as (url, asked), closing(Probe(management(url, WHO, every=0.01), ["q"], store)) as it:
        wait_for(lambda: len(asked) >= 4)
        assert not it.up
        assert it.pause >= 0.08
    assert facts(store) == {}
    assert not [path for path in asked if not path.startswith("/api/queues/%2F/q?columns=messages_ready%2C")]


def test_another_server_is_not_taken_for_a_broker_whose_queues_are_not_there(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer of 404 about a queue may come from anything that speaks HTTP."""
    with (
        answering(404, b'{"error": "Not Found"}') as (url, asked),
        closing(Probe(management(url, WHO, every=0.01), ["q"], store)) as it,
    ):
        wait_for(lambda: len(asked) >= 4)
        assert (it.up, it.succeeded_at) == (False, None)
    assert facts(store) == {}
    assert "or is no RabbitMQ management API" in caplog.text


@pytest.mark.broker
def test_a_virtual_host_that_is_not_there_is_said(
    broker: Broker, vhost_url: str, store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    asked = msgspec.structs.replace(at_broker(broker, vhost_url), vhost="nope")
    with closing(Probe(asked, ["q"], store)) as it:
        wait_for(lambda: "it has no virtual host 'nope'" in caplog.text)
        assert not it.up
    assert facts(store) == {}


@pytest.mark.parametrize("body", [b"[]", b"no json", b"\xff", b'{"x": "' + b"x" * probe.MAX_ANSWER + b'"}'])
def test_a_body_that_is_none_costs_the_probe(store: SqliteStore, body: bytes) -> None:
    with answering(200, body) as (url, asked), closing(Probe(management(url, WHO, every=0.01), ["q"], store)) as it:
        wait_for(lambda: len(asked) >= 3)
        assert not it.up
    assert facts(store) == {}


def test_a_broker_that_takes_connections_and_never_answers_costs_a_bounded_time(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probe, "PROBE_WITHIN", 0.2)
    with create_server(("127.0.0.1", 0)) as silent:
        asked = management(f"http://127.0.0.1:{silent.getsockname()[1]}", WHO, every=0.01)
        with closing(Probe(asked, ["q", "r"], store)) as probing:
            wait_for(lambda: probing.pause > 0.03)
    assert "trying on: it did not answer within 200 ms" in caplog.text


def test_closing_does_not_wait_for_a_broker_that_never_answers(store: SqliteStore) -> None:
    with create_server(("127.0.0.1", 0)) as silent:
        probing = Probe(management(f"http://127.0.0.1:{silent.getsockname()[1]}", WHO), ["q"], store)
        connection, _ = silent.accept()
        began = time.monotonic()
        probing.close()
        probing.close()
        assert time.monotonic() - began < probe.PROBE_WITHIN / 2
        connection.close()
    assert "otel-orders-probe" not in {thread.name for thread in threading.enumerate()}


def test_it_is_up_again_when_the_broker_is(store: SqliteStore, caplog: pytest.LogCaptureFixture) -> None:
    with create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with closing(Probe(management(f"http://127.0.0.1:{port}", WHO, every=0.01), ["q"], store)) as probing:
        wait_for(lambda: probing.pause > 0.01)
        probing._asked = management("http://127.0.0.1:1", WHO, every=0.01)
        with answering(200, b'{"messages_ready": 1, "messages_unacknowledged": 0}') as (url, _):
            probing._asked = management(url, WHO, every=0.01)
            wait_for(lambda: probing.up)
            wait_for(lambda: facts(store))
            assert probing.succeeded_at == pytest.approx(time.time(), abs=20)
    assert "answers again" in caplog.text


def test_a_store_that_cannot_be_written_is_a_failure_that_passes(store: SqliteStore) -> None:
    body = b'{"messages_ready": 1, "messages_unacknowledged": 0}'
    with answering(200, body) as (url, asked), closing(Probe(management(url, WHO, every=0.01), ["q"], store)) as it:
        wait_for(lambda: it.up)
        with store.transaction():
            store._writer.execute("ALTER TABLE meta RENAME TO hidden")
        wait_for(lambda: not it.up)
        with store.transaction():
            store._writer.execute("ALTER TABLE hidden RENAME TO meta")
        wait_for(lambda: it.up)
    assert asked


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    return cert, tls


@pytest.mark.parametrize("trusted", [True, False])
def test_tls_is_verified_with_the_given_authority(store: SqliteStore, tmp_path: Path, *, trusted: bool) -> None:
    cert, tls = certificate(tmp_path)
    with answering(200, b"{}", tls) as (url, asked):
        reached = management(url, WHO, ca=str(cert) if trusted else None, every=0.01)
        with closing(Probe(reached, ["q"], store)) as probing:
            wait_for(lambda: probing.up if trusted else probing.pause > 0.03)
    assert bool(asked) is trusted


@pytest.mark.parametrize(
    ("url", "environ", "says"),
    [
        ("rabbit:15672", WHO, "expected http://HOST:15672"),
        ("ftp://rabbit", WHO, "expected http://HOST:15672"),
        ("http://[::1", WHO, "expected http://HOST:15672"),
        ("http://rabbit:0", WHO, "expected http://HOST:15672"),
        ("http://rabbit?x=y", WHO, "expected http://HOST:15672"),
        ("http://me:s3cret@rabbit", WHO, "expected no user in the URL"),
        ("http://rabbit", {}, f"needs {USER} and {PASSWORD}"),
        ("http://rabbit", {USER: "me"}, f"needs {USER} and {PASSWORD}"),
    ],
)
def test_what_cannot_work_is_said_at_the_start(url: str, environ: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as told:
        management(url, environ)
    assert "s3cret" not in str(told.value)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_of_authorities_that_is_none_is_said_at_the_start(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=f"--rabbitmq-ca {file}"):
        management("https://rabbit", WHO, ca=str(file))
