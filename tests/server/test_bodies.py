"""Bodies of requests are bounded: each, all together, and in time; and a sender may hang up at any moment."""

from __future__ import annotations

import socket
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from otel_orders.server import bodies
from tests.ledger import senders
from tests.ledger.senders import changed
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    import httpx

    from otel_orders.ledger.service import Ledger


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
