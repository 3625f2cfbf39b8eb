"""Stores of all kinds, as far as a Collector sees them: what arrives is kept as it came, byte by byte, unpacked."""

from __future__ import annotations

import gzip
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.sinks.receiver import serving

if TYPE_CHECKING:
    from collections.abc import Iterator


class Arrival(NamedTuple):
    """One request.  headers: with names in lower case.  body: after decompression."""

    path: str
    headers: dict[str, str]
    body: bytes


class FarEnd:
    """What arrived so far, and where it is sent to."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.arrivals: list[Arrival] = []

    @property
    def raw(self) -> bytes:
        """All that arrived, in one piece."""
        return b"\n".join(arrival.body for arrival in self.arrivals)

    def spans(self, **headers: str) -> list[Any]:
        """Return the spans that came with *headers*; in their names, ``_`` stands for a hyphen."""
        requests = map(ExportTraceServiceRequest.FromString, self._bodies("/v1/traces", headers))
        scopes = (scope for request in requests for block in request.resource_spans for scope in block.scope_spans)
        return [span for scope in scopes for span in scope.spans]

    def records(self, **headers: str) -> list[Any]:
        """Return the log records that came with *headers*."""
        requests = map(ExportLogsServiceRequest.FromString, self._bodies("/v1/logs", headers))
        scopes = (scope for request in requests for block in request.resource_logs for scope in block.scope_logs)
        return [record for scope in scopes for record in scope.log_records]

    def _bodies(self, ending: str, headers: dict[str, str]) -> list[bytes]:
        wanted = {(name.replace("_", "-"), value) for name, value in headers.items()}
        return [
            arrival.body
            for arrival in self.arrivals
            if arrival.path.endswith(ending) and wanted <= arrival.headers.items()
        ]


@contextmanager
def far_end(status: int = 200) -> Iterator[FarEnd]:
    """Take whatever is posted, inside the block, and answer it with *status*."""

    class Endpoint(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            found.arrivals.append(Arrival(self.path, headers, unpacked(body, headers.get("content-encoding", ""))))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Stay silent."""

    with serving(Endpoint) as url:
        found = FarEnd(url)
        yield found


def unpacked(body: bytes, encoding: str) -> bytes:
    """Return *body* as it was before its sender compressed it."""
    if encoding == "gzip":
        return gzip.decompress(body)
    return unsnapped(body) if encoding == "snappy" else body


def unsnapped(packed: bytes) -> bytes:
    """Return what Snappy's block format packed: literals, and copies of what came before."""
    place = next(index for index, byte in enumerate(packed) if byte < 0x80) + 1  # the length that comes first
    out = bytearray()
    while place < len(packed):
        tag = packed[place]
        kind, size, place = tag & 3, tag >> 2, place + 1
        if kind == 0:
            if (extra := max(size - 59, 0)) > 0:
                size = int.from_bytes(packed[place : place + extra], "little")
            place += extra
            out += packed[place : place + size + 1]
            place += size + 1
            continue
        if kind == 1:
            size, offset = (size & 7) + 4, (tag >> 5 << 8) | packed[place]
            place += 1
        else:
            width = 2 if kind == 2 else 4
            size, offset = size + 1, int.from_bytes(packed[place : place + width], "little")
            place += width
        for _ in range(size):
            out.append(out[-offset])
    return bytes(out)
