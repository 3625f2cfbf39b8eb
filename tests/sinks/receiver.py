"""A real OTLP/HTTP receiver on a free port."""

from __future__ import annotations

import gzip
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

DEADLINE = 60.0
"""Seconds after which what was waited for will not come."""


class Received:
    """What arrived so far, and the receiver's URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.resources: list[dict[str, Any]] = []
        self.spans: list[Any] = []
        self.records: list[Any] = []

    def add(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(attributes(resource_spans.resource))
                self.spans += [span for scope in resource_spans.scope_spans for span in scope.spans]
        else:
            for resource_logs in ExportLogsServiceRequest.FromString(body).resource_logs:
                self.resources.append(attributes(resource_logs.resource))
                self.records += [record for scope in resource_logs.scope_logs for record in scope.log_records]


def attributes(holder: Any) -> dict[str, Any]:
    """Return the attributes of a resource, span, span event or log record."""
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in holder.attributes
    }


@contextmanager
def serving(endpoint: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve *endpoint* on a free port of the loopback interface inside the block; gives its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), endpoint)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    server.block_on_close = False  # a sender may hold its connection open
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def receiver() -> Iterator[Received]:
    """Receive OTLP over HTTP inside the block."""

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.add(self.path, gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Stay silent."""

    with serving(Endpoint) as url:
        received = Received(url)
        yield received


def wait_for(condition: Callable[[], object], seconds: float = DEADLINE) -> None:
    """Wait until *condition* holds; raises AssertionError when it does not in *seconds*."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it did not happen in time")
        time.sleep(0.01)
