"""What stands between a Collector and the ledger, or between a sender and a Collector, when one of them is away."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import TYPE_CHECKING, Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.processes import Running

PATIENCE = 60.0
"""Seconds in which a sender gets rid of a request, at the latest."""


def post(client: httpx.Client, path: str, message: Any) -> int:
    """Send *message* until it is taken, as an SDK's exporter does; return how often it was refused before."""
    body, headers = message.SerializeToString(), {"content-type": "application/x-protobuf"}
    give_up, refused = time.monotonic() + PATIENCE, 0
    while True:
        with suppress(httpx.TransportError):
            answer = client.post(path, content=body, headers=headers)
            if answer.is_success:
                return refused
            assert answer.status_code in (429, 502, 503, 504), answer.text
        assert time.monotonic() < give_up, "it was not taken in time"
        refused += 1
        time.sleep(0.1)


def counted(ledger: Running, result: str) -> int:
    """Return how many events *ledger* counted as *result*."""
    page = httpx.get(f"{ledger.url}/metrics", trust_env=False, timeout=20).text
    samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
    name = "otel_orders_ledger_events_total"
    return int(sum(one.value for one in samples if one.name == name and one.labels["result"] == result))


def accepted(ledger: Running) -> int:
    return counted(ledger, "accepted")


class Gate:
    """Passes TCP connections on while it is open, and breaks them while it is not."""

    def __init__(self, url: str) -> None:
        self.target, self.is_open = httpx.URL(url), True
        self.url = ""
        self._connections: set[socket.socket] = set()

    def close(self) -> None:
        self.is_open = False
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def open(self) -> None:
        self.is_open = True

    def carry(self, near: socket.socket) -> None:
        if not self.is_open:
            return
        with socket.create_connection((self.target.host, self.target.port or 80)) as far:
            both = {near, far}
            self._connections |= both
            back = threading.Thread(target=_pump, args=(far, near))
            back.start()
            _pump(near, far)
            back.join()
            self._connections -= both


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65_536):
            sink.sendall(piece)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def gate(url: str) -> Iterator[Gate]:
    """Stand before *url* inside the block."""
    found = Gate(url)

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            found.carry(self.request)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        found.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        try:
            yield found
        finally:
            found.close()
            server.shutdown()
            thread.join()
