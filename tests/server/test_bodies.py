"""Bodies of requests are bounded: each, all together, and in time; and a sender may hang up at any moment."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import grpc
import pytest

from otel_orders.server import bodies
from tests.ledger import senders
from tests.ledger.senders import changed
from tests.server.conftest import both_served
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from otel_orders.ledger.service import Ledger

GRPC_LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


def unfinished(client: httpx.Client, sent: bytes, length: int = 1000) -> socket.socket:
    """Begin to send a body of *length* bytes, and stop after *sent*."""
    connection = socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=20)
    connection.sendall(f"POST /events HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n".encode() + sent)
    return connection


def status_of(connection: socket.socket) -> int:
    return int(connection.recv(100).split()[1])


def takes_events(client: httpx.Client) -> bool:
    return client.post("/events", content=senders.lines([changed("A-1")])).status_code == 200


def test_a_sender_that_hangs_up_leaves_no_word_in_the_log(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    for sent in (b"", b"{", b"x" * 900):
        unfinished(client, sent).close()
    assert takes_events(client)
    assert not [record for record in caplog.records if record.levelname != "DEBUG" and record.name != "httpx"]


def test_a_body_that_does_not_come_is_not_waited_for(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "READ_SECONDS", 0.1)
    with unfinished(client, b"{") as connection:
        assert status_of(connection) == 503
    assert takes_events(client)


def test_all_bodies_together_are_bounded_and_what_ended_is_given_back(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "MAX_HELD", 1000)
    with unfinished(client, b" " * 900):
        wait_for(lambda: not takes_events(client))
        answer = client.post("/events", content=b" " * 200)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    wait_for(lambda: takes_events(client))


def test_a_body_has_its_share_until_its_events_are_on_disk(
    ledger: Ledger, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "MAX_HELD", 1000)
    with closing(sqlite3.connect(ledger._store._path, isolation_level=None)) as other:  # type: ignore[attr-defined]
        other.execute("BEGIN IMMEDIATE")  # nothing can be written meanwhile
        sender = threading.Thread(
            target=client.post, args=["/events"], kwargs={"content": senders.lines([changed("A-1", note="x" * 600)])}
        )
        sender.start()
        wait_for(lambda: ledger.writer.waiting)
        assert client.post("/events", content=b" " * 500).status_code == 429
        other.execute("ROLLBACK")
    sender.join()
    wait_for(lambda: takes_events(client))


@contextmanager
def decoding(client: httpx.Client) -> Iterator[None]:
    """Let a large body be decoded inside the block, for a second or so."""
    records = ",".join(["{}"] * 90_000)
    body = f'{{"resourceLogs": [{{"scopeLogs": [{{"logRecords": [{records}]}}]}}]}}'
    post = {"content": body, "headers": {"content-type": "application/json"}}
    sender = threading.Thread(target=client.post, args=["/v1/logs"], kwargs=post)
    sender.start()
    yield
    sender.join()


def test_a_large_body_does_not_wait_long_for_its_turn_and_is_told_to_come_back(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "TURN_SECONDS", 0.01)
    large = changed("A-1", note="x" * bodies.SMALL)
    with (
        both_served(ledger) as (client, server),
        grpc.insecure_channel(server.endpoint.removeprefix("http://")) as channel,
    ):
        export = channel.unary_unary(GRPC_LOGS)
        with decoding(client):
            wait_for(lambda: client.post("/events", content=senders.lines([large])).status_code == 429)
            answer = client.post("/events", content=senders.lines([large]))
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
            with pytest.raises(grpc.RpcError) as raised:
                export(senders.logs([large]).SerializeToString(), timeout=20)
            assert takes_events(client)  # a small one waits for nobody
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert raised.value.details() == "too many large requests wait for their turn"
        assert "google.rpc.retryinfo-bin" in dict(raised.value.trailing_metadata())
        wait_for(lambda: client.post("/events", content=senders.lines([large])).status_code == 200)
        export(senders.logs([large]).SerializeToString(), timeout=20)


def test_a_sender_that_goes_away_keeps_its_turn_until_its_body_is_decoded() -> None:
    going, ended, order = threading.Event(), threading.Event(), []

    def slowly(body: bytes) -> None:
        going.set()
        assert ended.wait(20)
        order.append(body[:1])

    async def read(first: bytes) -> bytes:
        return first * (bodies.SMALL + 1)

    async def sent(intake: bodies.Intake, first: bytes) -> None:
        async with intake.message(lambda: read(first), slowly):
            pass

    async def both() -> None:
        intake = bodies.Intake()
        first = asyncio.create_task(sent(intake, b"1"))
        await asyncio.to_thread(going.wait, 20)
        first.cancel()
        second = asyncio.create_task(sent(intake, b"2"))
        for _ in range(100):
            await asyncio.sleep(0)
        assert (first.done(), order) == (False, [])
        ended.set()
        await second
        assert (first.cancelled(), order) == (True, [b"1", b"2"])

    asyncio.run(both())


@pytest.mark.parametrize("request_line", ["GET", "GET /", "\0\0\0", "GET /" + "x" * 100_000 + " HTTP/1.1"])
def test_what_is_no_http_is_answered_and_forgotten(client: httpx.Client, request_line: str) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=20) as connection:
        connection.sendall(request_line.encode() + b"\r\n\r\n")
        assert status_of(connection) == 400
    assert takes_events(client)


def test_headers_without_end_are_cut(client: httpx.Client) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 20_000)
        assert status_of(connection) == 400
    assert takes_events(client)
